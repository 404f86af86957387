import type { JournalEntry } from '../run/journal.ts';
import type { Rollback, State } from '../run/state.ts';
import type { KnownArea } from '../store/exchange/known-area.ts';
import type { VolumeArea } from '../store/exchange/list-areas.ts';
import type { AreaRecord } from '../store/exchange/own-area.ts';

/** The agent's records of the data that restores put aside in volumes. The areas in the volumes are authoritative. */

/** Returns the area with the put-aside data of a restore, whatever its condition. */
export function areaOf(one: Rollback, areas: readonly VolumeArea[]): VolumeArea | undefined {
  const whole = areas.find(({ restore, holds }) => restore === one.id && holds !== undefined);
  return whole ?? areas.find(({ kind, id }) => kind === 'before' && id === one.volume?.area);
}

/**
 * Corrects a rollback's record from the areas in its volume. Returns undefined if the put-aside data is gone. The area
 * shows which data is in use: a process that exchanged the data may have died before it updated the record. A record of
 * an area that exists and does not show that stays as it is.
 */
export function asInVolume(one: Rollback, areas: readonly VolumeArea[]): Rollback | undefined {
  const area = areaOf(one, areas);
  if (!area) return undefined;
  const { id, restore, holds, inode, list } = area;
  if (restore !== one.id || holds === undefined) return one;
  const known = { ...(inode === undefined ? {} : { inode }), ...(list === undefined ? {} : { list }) };
  return { ...one, inUse: holds === 'before' ? 'restored' : 'before', volume: { area: id, ...known } };
}

/** Returns the recorded areas in the volume of a source. */
export function knownAreas(rollbacks: readonly Rollback[], source: string): KnownArea[] {
  return rollbacks.flatMap((one) => (one.source === source && one.volume ? [one.volume] : []));
}

/** Corrects the records of the restores into a volume from its areas. The caller must hold the lock. */
export async function refreshKeptVolume(state: State, source: string, areas: readonly VolumeArea[]): Promise<void> {
  const all = await state.rollbacks();
  const now = all.flatMap((one) => {
    return one.source === source && one.volume ? (asInVolume(one, areas) ?? []) : one;
  });
  if (JSON.stringify(now) !== JSON.stringify(all)) await state.saveRollbacks(now);
}

/**
 * Removes the record of a restore that recovery took back, which put nothing aside. The record is written before the
 * exchange. The caller must hold the lock.
 *
 * @param entries the journal of the restore
 */
export async function withdrawKeptVolume(state: State, entries: readonly JournalEntry[]): Promise<void> {
  const undone = new Set(entries.flatMap((entry) => (entry.type === 'volume' ? [entry.id] : [])));
  const all = await state.rollbacks();
  const now = all.filter(({ id, volume }) => !volume || !undone.has(id));
  if (now.length < all.length) await state.saveRollbacks(now);
}

/**
 * Completes the record of the put-aside data of a restore or rollback that died after its exchange: services may change
 * the owners of that data as soon as they start. The caller must hold the lock.
 *
 * @param entries its journal
 */
export async function completeKeptVolume(state: State, entries: readonly JournalEntry[]): Promise<void> {
  const of = entries.find((entry) => entry.type === 'begun')?.from;
  const all = await state.rollbacks();
  const now = all.map((one): Rollback => {
    if (!one.volume) return one;
    for (const { id } of entries.filter((entry) => entry.type === 'volume')) {
      const volume = keptAreaOf(entries, id);
      if (!volume || one.id !== (of?.id ?? id)) continue;
      return { ...one, ...(of ? { inUse: of.inUse === 'restored' ? 'before' : 'restored' } : {}), volume };
    }
    return one;
  });
  if (JSON.stringify(now) !== JSON.stringify(all)) await state.saveRollbacks(now);
}

/** Returns the area that holds the replaced data of a restore or rollback, if its journal shows that it moved any. */
export function keptAreaOf(entries: readonly JournalEntry[], id: string): KnownArea | undefined {
  const { before, list } = areasOf(entries, id);
  return before !== undefined && list ? { area: id, inode: before, list } : undefined;
}

/** Returns the areas that a restore or rollback made, as far as its journal shows them. */
export function areasOf(entries: readonly JournalEntry[], id: string): AreaRecord {
  const areas: AreaRecord = {};
  for (const entry of entries) {
    if (entry.type === 'volume-areas' && entry.id === id) Object.assign(areas, entry.areas);
    if (entry.type === 'volume-swap' && entry.id === id)
      Object.assign(areas, { ...(entry.area ? { before: entry.area } : {}), list: entry.list ?? '' });
  }
  return areas;
}
