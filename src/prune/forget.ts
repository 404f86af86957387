import { createHash } from 'node:crypto';
import { LifeboatError } from '../base/errors.ts';
import type { Lock } from '../run/process-lock.ts';
import type { State } from '../run/state.ts';
import { manifestKey } from '../store/objects/manifest.ts';
import { deleteUnlessKept, readEvenDamaged } from '../store/objects/objects.ts';
import type { Lease } from '../store/repository/lease.ts';
import { deletePin, readPins } from '../store/repository/pins.ts';
import type { Repository, SnapshotList } from '../store/repository/repository.ts';
import { isCertainlyUnreadable } from '../store/repository/snapshot-list.ts';
import { deleteTombstone, FORGOTTEN, putTombstone, readTombstones, sortOut } from '../store/repository/tombstones.ts';
import { findUnreadPlace } from './unread-place.ts';

/** Gives up snapshots whose manifests nobody can read any more. */

export interface ForgetDeps {
  /** keeps runs of this project from starting until released; throws LOCKED during a run */
  lock(): Promise<Lock>;
  /** cleans up after dead runs */
  recover(): Promise<void>;
  repository(): Promise<Repository>;
  /** keeps other agents from writing to the project at the destination; throws LOCKED while one does */
  lease(repository: Repository): Promise<Lease>;
  state: Pick<State, 'chain'>;
  now(): Date;
}

/** A snapshot whose manifest cannot be read. */
export interface UnreadableSnapshot {
  id: string;
  /** why its manifest cannot be read */
  error: LifeboatError;
  /** the reason of its pin, if it is pinned */
  pinned?: string;
}

/**
 * Finds a snapshot with an unreadable manifest by its id, or by a unique beginning of it.
 *
 * @throws SNAPSHOT_UNKNOWN; USAGE if the manifest can be read; CHAIN_BROKEN if it is gone; the error of a manifest that
 * may be intact, although it cannot be read now
 */
export async function findUnreadable(repository: Repository, name: string): Promise<UnreadableSnapshot> {
  return pick(repository, await repository.snapshots(undefined, { fetch: true }), name);
}

async function pick(repository: Repository, list: SnapshotList, name: string): Promise<UnreadableSnapshot> {
  const ids = [...list.snapshots.map(({ manifest }) => manifest.id), ...list.damaged.map(({ id }) => id)];
  const matching = ids.filter((one) => one.startsWith(name));
  const id = matching.find((one) => one === name) ?? (matching.length === 1 ? matching[0] : undefined);
  if (name === '' || id === undefined) {
    const message = matching.length > 1 ? `more than one snapshot starts with ${name}` : `no snapshot ${name}`;
    throw new LifeboatError('SNAPSHOT_UNKNOWN', message, { hint: '`lifeboat check` names unreadable manifests.' });
  }
  const found = list.damaged.find((one) => one.id === id);
  if (!found) {
    throw new LifeboatError('USAGE', `the manifest of ${id} can be read`, {
      hint: 'Retention removes snapshots that can be read: shorten LIFEBOAT_KEEP or the label lifeboat.keep, then run `lifeboat prune`. `lifeboat unpin` releases a pinned snapshot.',
    });
  }
  const { error } = found;
  if (found.lost) throw error;
  if (!isCertainlyUnreadable(error)) {
    const hint = error.hint === undefined ? {} : { hint: error.hint };
    throw new LifeboatError(error.code, `the manifest of ${id} may be intact: ${error.message}`, {
      cause: error.cause,
      ...hint,
    });
  }
  const pin = (await readPins(repository)).get(id);
  return { id, error, ...(pin ? { pinned: pin.reason } : {}) };
}

/**
 * Gives up a snapshot: writes a tombstone in its place in the chain, then deletes its manifest and its pin. Later
 * prunes delete the objects that no other snapshot needs. The caller must not hold the lock.
 *
 * @param name as {@link findUnreadable} takes it
 * @throws as {@link findUnreadable}; LOCKED; LEASE_LOST; DELETE_REFUSED; what the destination throws
 */
export async function forgetUnreadable({ state, now, ...deps }: ForgetDeps, name: string): Promise<UnreadableSnapshot> {
  const lock = await deps.lock();
  let lease: Lease | undefined;
  try {
    await deps.recover();
    const repository = await deps.repository();
    lease = await deps.lease(repository);
    const list = await repository.snapshots(undefined, { fetch: true });
    const found = await pick(repository, list, name);
    const { id } = found;
    const { destination, project } = repository;
    const key = manifestKey(project, id);
    const bytes = (await readEvenDamaged(destination, key).catch(() => undefined))?.bytes;
    const { usable } = sortOut(list.snapshots, await readTombstones(repository));
    const seen = (await state.chain(project)) ?? [];
    // An unknown manifest gets a hash that no other one has.
    const own = createHash('sha256')
      .update(bytes ?? key)
      .digest('hex');
    const { hash, ...place } = findUnreadPlace(id, { list, tombstones: usable, seen, own });
    await lease.fence();
    const note = { removed: now().toISOString(), why: FORGOTTEN };
    await putTombstone(repository, { manifest: { id, ...place }, hash }, note);
    if (!(await deleteUnlessKept(destination, key))) {
      await deleteTombstone(repository, id);
      throw new LifeboatError('DELETE_REFUSED', `${destination.name} does not let ${key} be deleted`, {
        hint: 'Run the command with a key that may delete, or after the lock of the object has ended.',
      });
    }
    if (found.pinned !== undefined) await deletePin(repository, id);
    return found;
  } finally {
    await lease?.release();
    await lock.release();
  }
}
