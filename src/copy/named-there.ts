import { LifeboatError } from '../base/errors.ts';
import { documentsOf, type Manifest, type ObjectRef } from '../store/objects/manifest.ts';
import { decodePackList, SeenLines } from '../store/objects/pack-list.ts';
import type { CopyContext } from '../store/repository/copy-objects.ts';
import { listsOf } from '../store/repository/pack-lists.ts';
import { incompleteOf } from '../store/wal/page.ts';
import { readWalLogs } from '../store/wal/read-log.ts';

/**
 * The sizes and hashes that a copy itself records for its objects. Without a signing key, anybody who can write to the
 * destination can forge a manifest there. It must not make a copy give up an object that its own snapshots need.
 */

/**
 * Returns what the snapshots of the copy say of some objects, by key. Reads all its lists, so call it only for objects
 * that differ from what a manifest at the destination says. A list that neither side has whole says nothing.
 */
export async function namedThere(
  { from, to, signal }: Pick<CopyContext, 'from' | 'to' | 'signal'>,
  manifests: readonly Manifest[],
  keys: ReadonlySet<string>,
): Promise<Map<string, ObjectRef>> {
  const named = new Map<string, ObjectRef>();
  const take = (ref: ObjectRef) => {
    if (keys.has(ref.key)) named.set(ref.key, ref);
  };
  for (const manifest of manifests) for (const ref of documentsOf(manifest)) take(ref);
  const seen = new SeenLines();
  for (const list of listsOf(manifests)) {
    signal.throwIfAborted();
    try {
      const lines = await to.readPackList(list, signal).catch(() => from.readPackList(list, signal));
      for (const pack of decodePackList(lines, list, seen)) take(pack);
    } catch {
      signal.throwIfAborted();
    }
  }
  return named;
}

/** The same for the write-ahead log of a source: what the pages of the copy say, by key. */
export async function walNamedThere(
  { to, signal }: Pick<CopyContext, 'to' | 'signal'>,
  source: string,
): Promise<Map<string, ObjectRef>> {
  const pages = (await readWalLogs(to, source, signal)).flatMap((log) => log.pages.map(({ page }) => page));
  const refs = pages.flatMap((page) => [
    ...page.segments,
    ...page.histories,
    ...incompleteOf(page).flatMap(({ parts }) => parts),
  ]);
  return new Map(refs.map((ref) => [ref.key, ref]));
}

/** @throws OBJECT_DAMAGED if the copy says something else of an object than the destination */
export function refuseContradiction(ref: ObjectRef, there: ObjectRef | undefined): void {
  if (!there || (there.size === ref.size && there.sha256 === ref.sha256)) return;
  const text = `what the destination says of ${ref.key} contradicts a snapshot of the copy, which needs the object as it is`;
  throw new LifeboatError('OBJECT_DAMAGED', text, {
    hint: 'A manifest at the destination is forged or damaged. The copy keeps what it has.',
  });
}
