import { LifeboatError } from '../../base/errors.ts';
import type { Snapshot, SnapshotList } from './repository.ts';
import { tombstoneIds } from './tombstones.ts';

/** A snapshot by its place in the chain of manifests. */
export interface Place {
  id: string;
  sequence: number;
  /** hex SHA-256 of the manifest's bytes */
  hash: string;
}

/** The snapshots that an agent has seen at its destination, and has not seen removed. */
export type SeenChain = readonly Place[];

const RECOVER =
  'To bring it back, run `lifeboat copy --from` with a copy that has it. Nothing is deleted until then. To go on with what is there, run `lifeboat accept destination`.';

/** Returns the place of a snapshot. */
export function placeOf({ manifest: { id, sequence }, hash }: Snapshot): Place {
  return { id, sequence, hash };
}

/** Returns the highest sequence of the places, or 0 if there are none. */
export function highestSequence(places: readonly Pick<Place, 'sequence'>[]): number {
  return places.reduce((highest, { sequence }) => Math.max(highest, sequence), 0);
}

/** Returns why a manifest is refused (CHAIN_BROKEN) that is not the one that the agent has seen under that id. */
export function changedSince({ id, hash }: Pick<Place, 'id' | 'hash'>, seen: SeenChain): LifeboatError | undefined {
  if (!seen.some((one) => one.id === id && one.hash !== hash)) return undefined;
  return new LifeboatError('CHAIN_BROKEN', `the manifest of ${id} was changed since the agent last read it`, {
    hint: `Somebody edited or replaced it. Delete it first. ${RECOVER}`,
  });
}

/**
 * Adds to the damaged snapshots of a list those that the agent has seen and that are gone without a tombstone. Only retention
 * removes snapshots, and it leaves a tombstone. Lists the tombstones only if something is gone.
 */
export async function addLost(
  place: Parameters<typeof tombstoneIds>[0],
  list: SnapshotList,
  seen: SeenChain,
): Promise<SnapshotList> {
  const there = new Set([
    ...list.snapshots.flatMap(({ manifest, hash }) => [manifest.id, hash]),
    ...list.damaged.map(({ id }) => id),
  ]);
  const gone = seen.filter(({ id, hash }) => !there.has(id) && !there.has(hash));
  if (gone.length === 0) return list;
  const removed = new Set(await tombstoneIds(place));
  const lost = gone.filter(({ id }) => !removed.has(id)).sort((a, b) => b.sequence - a.sequence);
  return {
    ...list,
    damaged: [...list.damaged, ...lost.map((one) => ({ id: one.id, lost: one, error: lostError(place, one) }))],
  };
}

function lostError({ destination }: Parameters<typeof tombstoneIds>[0], { id, sequence }: Place): LifeboatError {
  const message = `${destination.name} has lost snapshot ${id}: its manifest (sequence ${sequence}) is gone, and nobody removed it`;
  return new LifeboatError('CHAIN_BROKEN', message, { hint: RECOVER });
}

/**
 * Refuses a chain that ends before a snapshot that the agent has seen. The directory of the project may be gone, or an older state
 * of the disk may be mounted. A new snapshot would then take the place of one that is missing.
 *
 * @throws CHAIN_BROKEN
 */
export function refuseLostEnd(
  { destination }: Parameters<typeof tombstoneIds>[0],
  { snapshots, damaged }: Pick<SnapshotList, 'snapshots' | 'damaged'>,
): void {
  const end = highest(snapshots.map(placeOf));
  const last = highest(damaged.flatMap(({ lost }) => lost ?? []));
  if (!last || (end && end.sequence > last.sequence)) return;
  const ends = end ? `the newest one there is ${end.id}` : 'there is none';
  throw new LifeboatError('CHAIN_BROKEN', `${destination.name} has lost snapshots: ${last.id} is gone, and ${ends}`, {
    hint: 'Is the right disk mounted, in its newest state? Mount it, or bring the snapshots back from a copy with `lifeboat copy --from`. To restore from what is there, name a snapshot by its id. To go on with it: `lifeboat accept destination`.',
  });
}

function highest(places: readonly Place[]): Place | undefined {
  return places.toSorted((a, b) => b.sequence - a.sequence)[0];
}

/** Returns what the agent remembers after it has read a list: what is there, and what it has seen and cannot read now. */
export function rememberList({ snapshots, damaged }: SnapshotList, seen: SeenChain): SeenChain {
  const unread = new Set(damaged.map(({ id }) => id));
  return [...seen.filter(({ id }) => unread.has(id)), ...snapshots.map(placeOf).reverse()];
}
