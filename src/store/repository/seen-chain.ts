import { LifeboatError } from '../../base/errors.ts';
import type { Place, Repository, Snapshot, SnapshotList } from './repository.ts';
import { findRemoved } from './tombstones.ts';

/** The snapshots that an agent has seen at its destination, and has not seen removed. */
export type SeenChain = readonly Place[];

const RECOVER =
  'To restore it, run `lifeboat copy --from` with a copy that has it. Nothing is deleted until then. To continue without it, run `lifeboat accept destination`.';

/** Returns the place of a snapshot in the chain. */
export function placeOf({ manifest: { id, sequence, signature }, hash }: Snapshot): Place {
  return { id, sequence, hash, ...(signature ? { signed: true } : {}) };
}

/** Returns the highest sequence of the places, or 0 if there are none. */
export function highestSequence(places: readonly Pick<Place, 'sequence'>[]): number {
  return places.reduce((highest, { sequence }) => Math.max(highest, sequence), 0);
}

/** Returns CHAIN_BROKEN if a manifest differs from the one that the agent has seen under the same id. */
export function changedSince({ id, hash }: Pick<Place, 'id' | 'hash'>, seen: SeenChain): LifeboatError | undefined {
  if (!seen.some((one) => one.id === id && one.hash !== hash)) return undefined;
  return new LifeboatError('CHAIN_BROKEN', `the manifest of ${id} was changed since Lifeboat last read it`, {
    hint: `Somebody edited or replaced it. Delete it first. ${RECOVER}`,
  });
}

/**
 * Adds the snapshots that the agent has seen, and that are gone without a tombstone, to the damaged ones of a list.
 * Only retention removes snapshots, and it leaves a tombstone. Reads only the tombstones of snapshots that are gone.
 */
export async function addLost(
  place: Parameters<typeof findRemoved>[0],
  list: SnapshotList,
  seen: SeenChain,
): Promise<SnapshotList> {
  const there = new Set([
    ...list.snapshots.flatMap(({ manifest, hash }) => [manifest.id, hash]),
    ...list.damaged.map(({ id }) => id),
  ]);
  const gone = seen.filter(({ id, hash }) => !there.has(id) && !there.has(hash));
  const removed = await findRemoved(place, gone, list.snapshots);
  const lost = gone.filter(({ id }) => !removed.has(id)).sort((a, b) => b.sequence - a.sequence);
  return {
    ...list,
    damaged: [...list.damaged, ...lost.map((one) => ({ id: one.id, lost: one, error: lostError(place, one) }))],
  };
}

function lostError({ destination }: Pick<Repository, 'destination'>, { id, sequence }: Place): LifeboatError {
  const message = `${destination.name} has lost snapshot ${id}: its manifest (sequence ${sequence}) is gone, and Lifeboat did not remove it`;
  return new LifeboatError('CHAIN_BROKEN', message, { hint: RECOVER });
}

/**
 * Refuses a chain that ends before a snapshot that the agent has seen. The directory of the project may be gone, or an
 * older state of the disk may be mounted. A new snapshot would then take the place of a missing one.
 *
 * @throws CHAIN_BROKEN
 */
export function refuseLostEnd(
  { destination }: Pick<Repository, 'destination'>,
  { snapshots, damaged }: Pick<SnapshotList, 'snapshots' | 'damaged'>,
): void {
  const end = highest(snapshots.map(placeOf));
  const last = highest(damaged.flatMap(({ lost }) => lost ?? []));
  if (!last || (end && end.sequence > last.sequence)) return;
  const ends = end ? `the newest one there is ${end.id}` : 'there is none';
  throw new LifeboatError('CHAIN_BROKEN', `${destination.name} has lost snapshots: ${last.id} is gone, and ${ends}`, {
    hint: 'Mount the right disk in its newest state, or restore the snapshots from a copy with `lifeboat copy --from`. To restore from the snapshots that are there, name one by its id. To continue with them, run `lifeboat accept destination`.',
  });
}

function highest(places: readonly Place[]): Place | undefined {
  return places.toSorted((a, b) => b.sequence - a.sequence)[0];
}

/**
 * Returns the chain to remember after a list was read: its snapshots, and those seen before that are unreadable now.
 */
export function rememberList({ snapshots, damaged }: SnapshotList, seen: SeenChain): SeenChain {
  const unread = new Set(damaged.map(({ id }) => id));
  return [...seen.filter(({ id }) => unread.has(id)), ...snapshots.map(placeOf).reverse()];
}
