import type { JournalEntry } from '../run/journal.ts';
import type { Rollback, State } from '../run/state.ts';
import type { AreaInodes } from '../store/exchange/own-area.ts';
import type { VolumeArea } from '../store/exchange/volume-areas.ts';

/** The agent's records of the data that restores put aside in volumes. The areas in the volumes are authoritative. */

/** Returns the area with the put-aside data of a restore. */
export function areaOf(one: Rollback, areas: readonly VolumeArea[]): VolumeArea | undefined {
  return areas.find(({ restore, holds }) => restore === one.id && holds !== undefined);
}

/**
 * Corrects a rollback's record from the areas in its volume. Returns undefined if the put-aside data is gone. The area
 * shows which data is in use: a process that exchanged the data may have died before it updated the record.
 */
export function asInVolume(one: Rollback, areas: readonly VolumeArea[]): Rollback | undefined {
  const area = areaOf(one, areas);
  if (!area) return undefined;
  return { ...one, inUse: area.holds === 'before' ? 'restored' : 'before', volume: { area: area.id } };
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

/** Returns the inodes of the areas that a restore or rollback made, as far as its journal shows them. */
export function areasOf(entries: readonly JournalEntry[], id: string): AreaInodes {
  const areas: AreaInodes = {};
  for (const entry of entries) {
    if (entry.type === 'volume-areas' && entry.id === id) Object.assign(areas, entry.areas);
    if (entry.type === 'volume-swap' && entry.id === id && entry.area) areas.before = entry.area;
  }
  return areas;
}
