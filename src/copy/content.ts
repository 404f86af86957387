import { KeySet } from '../store/objects/key-set.ts';
import { documentsOf, type ObjectRef } from '../store/objects/manifest.ts';
import type { StoredObjects } from '../store/objects/stored-objects.ts';
import { listsOf, visitPacks } from '../store/repository/pack-lists.ts';
import type { Repository } from '../store/repository/repository.ts';
import { listContent } from '../store/repository/unreferenced.ts';
import type { Side } from './context.ts';
import type { CopyStep } from './plan.ts';

/** Returns how many bytes the copy lacks of the snapshots in `lacking`, as far as their lists can be read. */
export async function bytesToSend(
  { repository }: Side,
  lacking: Iterable<CopyStep>,
  there: StoredObjects,
  signal: AbortSignal,
): Promise<number> {
  const manifests = [...lacking].flatMap((step) => (step.type === 'snapshot' ? [step.snapshot.manifest] : []));
  // Lists can name a pack in different lines. A wrong sum would do no harm, because it is only shown.
  const seen = new KeySet();
  let bytes = 0;
  const add = ({ key, size }: ObjectRef) => {
    if (there.get(key) === size || seen.has(key)) return;
    seen.add(key);
    bytes += size;
  };
  manifests.flatMap(documentsOf).forEach(add);
  await visitPacks(repository, listsOf(manifests), add, signal);
  return bytes;
}

/** Lists the keys of the content of a repository. */
export async function keysOf({ destination, project }: Repository): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of listContent(destination, project)) keys.push(key);
  return keys;
}
