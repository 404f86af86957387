import { hasCode, LifeboatError } from '../base/errors.ts';
import { documentsOf, manifestHash, manifestKey, type ObjectRef, type PackListRef } from '../store/objects/manifest.ts';
import { readDocument, readIfThere, streamOf } from '../store/objects/objects.ts';
import { decodePackList } from '../store/objects/pack-list.ts';
import type { PackRef } from '../store/packs/pack-stream.ts';
import { bring, type CopyContext, isAboutSnapshot } from '../store/repository/copy-objects.ts';
import { listsOf } from '../store/repository/pack-lists.ts';
import type { Snapshot } from '../store/repository/repository.ts';
import { expectInfo } from '../store/repository/repository-info.ts';
import { refuseContradiction } from './named-there.ts';

/**
 * Copies one snapshot: first the objects that `to` lacks or has damaged, then, with `commit`, the manifest. Lists of
 * packs come before the packs. An object whose hash differs from the recorded one is never stored under its name, and
 * its snapshot is not committed. If `to` has the manifest already, an object that cannot be repaired keeps no other one
 * from being repaired. A copy that is killed at any point leaves only whole objects, which the next call finds.
 *
 * @throws OBJECT_DAMAGED, OBJECT_MISSING if `from` does not have what the manifest names; DELETE_REFUSED if `to` does
 * not let a wrong object be replaced; a failure to read one object while others are readable, see {@link
 * isAboutSnapshot}; what `fence` and the destinations throw
 */
export async function copySnapshot(context: CopyContext, snapshot: Snapshot, commit: boolean): Promise<void> {
  const { manifest } = snapshot;
  let failure = await bringAll(context, documentsOf(manifest), commit);
  try {
    for (const list of listsOf([manifest])) {
      // The other objects are of no use without the manifest.
      if (failure && commit) break;
      const failed = await bringPacks(context, list, commit);
      failure ??= failed;
    }
    if (failure) throw failure;
  } catch (error) {
    context.checked.clear();
    throw error;
  }
  if (commit) await commitCopy(context, snapshot);
}

/** Brings the packs of a list that were not checked yet, see {@link bringAll}. */
async function bringPacks(
  context: CopyContext,
  list: PackListRef,
  commit: boolean,
): Promise<LifeboatError | undefined> {
  let packs: PackRef[];
  try {
    packs = await packsToCheck(context, list);
  } catch (error) {
    if (!isAboutSnapshot(error)) throw error;
    return error;
  }
  return bringAll(context, packs, commit);
}

/** Returns the packs in a list that were not checked yet. Reads the list at `to` if `from` has lost it. */
async function packsToCheck({ from, to, checked, signal }: CopyContext, list: PackListRef): Promise<PackRef[]> {
  const lines = await from.readPackList(list, signal).catch(async (error: unknown) => {
    signal.throwIfAborted();
    return to.readPackList(list, signal).catch(() => {
      throw error;
    });
  });
  return [...decodePackList(lines, list, checked)];
}

/**
 * Brings those objects that `to` lacks or has damaged. With `commit`, stops at the first that cannot be brought.
 *
 * @returns the first failure that concerns one object alone
 */
async function bringAll(
  context: CopyContext,
  all: readonly ObjectRef[],
  commit: boolean,
): Promise<LifeboatError | undefined> {
  const { there, suspects, bad, signal } = context;
  const objects = new Map(all.map((ref) => [ref.key, ref]));
  const lacking = [...objects.values()].filter(({ key, size }) => there.get(key) !== size || suspects.has(key));
  let failure = lacking.map(({ key }) => bad.get(key)).find((error) => error !== undefined);
  const differing = new Set(lacking.flatMap(({ key }) => (there.has(key) && !bad.has(key) ? [key] : [])));
  const named = differing.size > 0 ? await context.namedThere(differing) : new Map<string, ObjectRef>();
  for (const ref of lacking) {
    if (failure && commit) break;
    if (bad.has(ref.key)) continue;
    signal.throwIfAborted();
    try {
      refuseContradiction(ref, named.get(ref.key));
      await bring(context, ref);
    } catch (error) {
      if (!isAboutSnapshot(error)) throw error;
      failure ??= error;
    }
  }
  return failure;
}

async function commitCopy(
  { from, to, sent, signal, complete, fence }: CopyContext,
  { manifest, hash }: Snapshot,
): Promise<void> {
  const key = manifestKey(from.project, manifest.id);
  const bytes = await readDocument(from.destination, key, { signal });
  if (manifestHash(bytes) !== hash) throw new LifeboatError('OBJECT_DAMAGED', `${key} has changed meanwhile`);
  await complete(manifest);
  const lease = await fence();
  await expectInfo(to.destination, to.info);
  const ends = AbortSignal.any([signal, ...(lease ? [lease] : [])]);
  try {
    await to.destination.put(key, streamOf(bytes), { signal: ends, keepOnFailure: true });
  } catch (error) {
    // Another agent that was delayed has sent it, or this one has and the response was lost.
    const isThere = hasCode(error, 'DEST_EXISTS');
    if (!isThere || !(await readIfThere(to.destination, key))?.equals(bytes)) throw error;
  }
  sent.snapshots += 1;
}
