import { documentsOf, type ObjectRef } from '../store/objects/manifest.ts';
import { listsOf, visitPacks } from '../store/repository/pack-lists.ts';
import type { Repository } from '../store/repository/repository.ts';
import { listContent } from '../store/repository/unreferenced.ts';
import type { Side } from './context.ts';
import type { CopyStep } from './plan.ts';

/** Returns how many bytes the copy lacks of the snapshots in `lacking`, as far as their lists can be read. */
export async function bytesToSend(
  { repository }: Side,
  lacking: Iterable<CopyStep>,
  there: ReadonlyMap<string, number>,
  signal: AbortSignal,
): Promise<number> {
  const manifests = [...lacking].flatMap((step) => (step.type === 'snapshot' ? [step.snapshot.manifest] : []));
  const missing = new Map<string, number>();
  const add = ({ key, size }: ObjectRef) => there.get(key) !== size && missing.set(key, size);
  manifests.flatMap(documentsOf).forEach(add);
  await visitPacks(repository, listsOf(manifests), add, signal);
  return [...missing.values()].reduce((sum, size) => sum + size, 0);
}

/** Lists the keys of the content of a repository. */
export async function keysOf({ destination, project }: Repository): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of listContent(destination, project)) keys.push(key);
  return keys;
}
