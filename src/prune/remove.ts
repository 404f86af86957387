import type { Decision } from '../plan/keep.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import {
  deleteTombstone,
  isYoung,
  type Removal,
  readTombstone,
  removeSnapshot,
  tombstoneIds,
} from '../store/repository/tombstones.ts';

/** Why a snapshot stays although no source needs it. */
export const KEPT = 'no source needs it, and the destination does not let it be deleted';

/**
 * Removes the snapshots in `toRemove`. Resolves to those that stay, with the reason: somebody has pinned them
 * meanwhile, or the destination forbids deletions.
 */
export async function removeSnapshots(
  deps: { repository: Repository; signal: AbortSignal; now(): Date; prove(): Promise<void> },
  snapshots: readonly Snapshot[],
  toRemove: ReadonlySet<Snapshot>,
): Promise<Map<Snapshot, string>> {
  const wanted = new Set(snapshots.filter((one) => !toRemove.has(one)).map(({ manifest }) => manifest.id));
  // An interrupted prune may have left the tombstone of a snapshot that is needed now. A young tombstone may belong to
  // another agent's delayed prune, whose deletion of the manifest is still on its way. Without it, the chain would
  // break.
  for (const id of await tombstoneIds(deps.repository)) {
    if (!wanted.has(id)) continue;
    const found = await readTombstone(deps.repository, id);
    if (found && isYoung(found, deps.now())) continue;
    await deps.prove();
    await deleteTombstone(deps.repository, id);
  }
  const staying = new Map<Snapshot, string>();
  let kept = false;
  for (const snapshot of [...toRemove].reverse()) {
    deps.signal.throwIfAborted();
    await deps.prove();
    const note = { removed: deps.now().toISOString(), why: 'no source wanted it kept' };
    // Oldest first: a lock on one of them also covers those after it.
    const removal: Removal = kept ? 'kept' : await removeSnapshot(deps.repository, snapshot, note);
    kept = removal === 'kept';
    if (removal !== 'removed') staying.set(snapshot, kept ? KEPT : 'pinned just now');
  }
  return staying;
}

/** Returns the decisions, corrected for the snapshots that stay. */
export function markStaying(decisions: readonly Decision[], staying: ReadonlyMap<Snapshot, string>): Decision[] {
  const why = new Map([...staying].map(([{ manifest }, reason]) => [manifest.id, reason]));
  return decisions.map((one) => {
    const reason = why.get(one.id);
    return reason === undefined ? one : { ...one, keep: true, always: [reason] };
  });
}
