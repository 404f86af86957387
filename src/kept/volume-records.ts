import type { JournalEntry } from '../run/journal.ts';
import type { Rollback, State } from '../run/state.ts';
import { isKnown, type KnownArea } from '../store/exchange/known-area.ts';
import type { VolumeArea } from '../store/exchange/list-areas.ts';
import type { AreaRecord } from '../store/exchange/own-area.ts';

/** The agent's records of the data that restores put aside in volumes. Nothing in a volume can change them. */

/** Returns the area with the put-aside data of a restore, whatever its condition. */
export function areaOf({ volume }: Rollback, areas: readonly VolumeArea[]): VolumeArea | undefined {
  return areas.find(({ area }) => area === volume?.area);
}

/**
 * Returns a rollback's record, or undefined if the put-aside data is gone. The volume never corrects a record. A record
 * without a list stays until recovery completes or removes it.
 */
export function asInVolume(one: Rollback, areas: readonly VolumeArea[]): Rollback | undefined {
  if (one.volume && !isKnown(one.volume)) return one;
  return areaOf(one, areas) ? one : undefined;
}

/** Returns the recorded areas in the volume of a source. */
export function knownAreas(rollbacks: readonly Rollback[], source: string): KnownArea[] {
  return rollbacks.flatMap((one) => (one.source === source && one.volume && isKnown(one.volume) ? [one.volume] : []));
}

/** Removes the records of put-aside data that is gone from a volume. The caller must hold the lock. */
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
  const { before, list, size } = areasOf(entries, id);
  if (before === undefined || list === undefined || size === undefined) return undefined;
  return { area: id, identity: before, list, size };
}

/** Returns the areas that a restore or rollback made, as far as its journal shows them. */
export function areasOf(entries: readonly JournalEntry[], id: string): AreaRecord {
  const areas: AreaRecord = {};
  for (const entry of entries) {
    if (entry.type === 'volume-areas' && entry.id === id) Object.assign(areas, entry.areas);
    if (entry.type === 'volume-swap' && entry.id === id)
      Object.assign(areas, { before: entry.area, list: entry.list, size: entry.size });
    if (entry.type === 'volume-ended' && entry.id === id) areas.ended = entry.now;
  }
  return areas;
}
