import type { VolumeSource } from '../plan/model.ts';
import type { JournalEntry } from '../run/journal.ts';
import type { Rollback, State } from '../run/state.ts';
import { isKnown, type KnownArea, knownIn } from '../store/exchange/known-area.ts';
import type { VolumeArea } from '../store/exchange/list-areas.ts';
import type { AreaRecord } from '../store/exchange/own-area.ts';

/**
 * The agent's records of the data that restores put aside in volumes. Programs can write to a volume, so the volume
 * never corrects a record that is complete. It completes a record that was saved before its exchange, and replaces one
 * that was lost.
 */

/** Returns the recorded area of a restore, whatever its condition. */
export function areaOf({ volume }: Rollback, areas: readonly VolumeArea[]): VolumeArea | undefined {
  return areas.find(({ kind, id }) => kind === 'before' && id === volume?.area);
}

/**
 * Completes a record from the areas in its volume. Returns undefined if nothing was put aside: a restore is recorded
 * before its exchange. A record of data that is not found stays, because its disk may not be mounted, or somebody may
 * have moved the data.
 */
export function asInVolume(one: Rollback, areas: readonly VolumeArea[]): Rollback | undefined {
  if (one.volume && isKnown(one.volume)) return one;
  const area = areaOf(one, areas);
  if (!area) return undefined;
  return area.shows?.restore === one.id ? { ...one, ...ofArea(area.shows) } : one;
}

/** Returns what an area shows about the record of its restore. */
function ofArea({ holds, known }: NonNullable<VolumeArea['shows']>): Pick<Rollback, 'inUse' | 'volume'> {
  return { inUse: holds === 'before' ? 'restored' : 'before', volume: known };
}

/** The source of a volume. `dataDirectory`: the volume, if it is the data directory of a server. */
type Place = Pick<Rollback, 'source' | 'dataDirectory'>;

/** Returns the source of a volume, for its records. */
export function recordPlace(planned: VolumeSource): Place {
  return { source: planned.name, ...(planned.mount.directory === undefined ? {} : { dataDirectory: planned }) };
}

/**
 * Returns records for areas that no record names, because the spool was lost. Only for areas that nobody but Lifeboat
 * can have made: root owns them, and their restore is unambiguous.
 *
 * @param all the records of all sources
 */
export function recordsOf(place: Place, areas: readonly VolumeArea[], all: readonly Rollback[]): Rollback[] {
  const { source } = place;
  const isNew = ({ kind, id }: VolumeArea) =>
    kind === 'before' && !all.some((one) => one.source === source && one.volume?.area === id);
  return areas
    .filter(isNew)
    .flatMap(({ shows }): Rollback[] => {
      if (!shows) return [];
      const { restore, at, snapshot = '' } = shows;
      const isTwice = areas.some((one) => one.shows !== shows && one.shows?.restore === restore);
      if (isTwice || all.some(({ id }) => id === restore)) return [];
      return [{ id: restore, at, snapshot, ...place, ...ofArea(shows) }];
    })
    .sort((a, b) => (a.at < b.at ? -1 : 1));
}

/**
 * Returns the areas that no record names and that no record can be made for. `open`: IDs of the restores and rollbacks
 * that are not finished.
 */
export function strayAreas(
  source: string,
  areas: readonly VolumeArea[],
  { all, open }: { all: readonly Rollback[]; open: ReadonlySet<string> },
): VolumeArea[] {
  const records = [...all, ...recordsOf({ source }, areas, all)];
  const isNamed = ({ kind, id }: VolumeArea) =>
    kind === 'before' && records.some((one) => one.source === source && one.volume?.area === id);
  return areas.filter((area) => !isNamed(area) && !open.has(area.id));
}

/** Returns the recorded areas in the volume of a source. */
export function knownAreas(rollbacks: readonly Rollback[], source: string): KnownArea[] {
  return rollbacks.flatMap((one) => (one.source === source && one.volume && isKnown(one.volume) ? [one.volume] : []));
}

/**
 * Completes the records of the restores into a volume from its areas. The caller must hold the lock.
 *
 * @returns the IDs of those whose data is not found, with the reason
 */
export async function refreshKeptVolume(
  state: Pick<State, 'rollbacks' | 'saveRollbacks'>,
  place: Place,
  areas: readonly VolumeArea[],
): Promise<Map<string, 'area' | 'volume'>> {
  const all = await state.rollbacks();
  const isOf = (one: Rollback) => one.source === place.source && one.volume !== undefined;
  const now = all.flatMap((one) => (isOf(one) ? (asInVolume(one, areas) ?? []) : one));
  await saveChanged(state, all, [...now, ...recordsOf(place, areas, all)]);
  return new Map(now.filter(isOf).flatMap((one) => missingOf(one, areas)));
}

function missingOf(one: Rollback, areas: readonly VolumeArea[]): [string, 'area' | 'volume'][] {
  const missing = areaOf(one, areas)?.missing;
  return missing === undefined ? [] : [[one.id, missing]];
}

/**
 * Removes the record of a restore whose exchange was taken back, so that it put nothing aside. The record is written
 * before the exchange. The caller must hold the lock.
 */
export async function withdrawKeptVolume(state: State, id: string): Promise<void> {
  const all = await state.rollbacks();
  await saveChanged(
    state,
    all,
    all.filter((one) => !one.volume || one.id !== id),
  );
}

/**
 * Completes the record of the old data of a restore or rollback whose exchange is complete, from its journal:
 * services may change the owners of that data as soon as they start. The caller must hold the lock.
 *
 * @param entries its journal
 * @param exchange `id`: of the restore or rollback; `kept`: false if it put nothing aside
 */
export async function completeKeptVolume(
  state: State,
  entries: readonly JournalEntry[],
  { id, kept }: { id: string; kept?: boolean | undefined },
): Promise<void> {
  const of = entries.find((entry) => entry.type === 'begun')?.from;
  const volume = kept === false ? undefined : keptAreaOf(entries, id);
  const inUse = of && { inUse: of.inUse === 'restored' ? ('before' as const) : ('restored' as const) };
  const all = await state.rollbacks();
  const now = all.flatMap((one): Rollback[] => {
    if (!one.volume || one.id !== (of?.id ?? id)) return [one];
    return volume ? [{ ...one, ...inUse, volume }] : [];
  });
  await saveChanged(state, all, now);
}

async function saveChanged(
  state: Pick<State, 'saveRollbacks'>,
  before: readonly Rollback[],
  now: readonly Rollback[],
): Promise<void> {
  if (JSON.stringify(now) !== JSON.stringify(before)) await state.saveRollbacks(now);
}

/** Returns the area that holds the replaced data of a restore or rollback, if its journal shows that it moved any. */
export function keptAreaOf(entries: readonly JournalEntry[], id: string): KnownArea | undefined {
  return knownIn(id, areasOf(entries, id));
}

/** Returns the areas that a restore or rollback made, as far as its journal shows them. */
export function areasOf(entries: readonly JournalEntry[], id: string): AreaRecord {
  const areas: AreaRecord = {};
  for (const entry of entries) {
    if (entry.type === 'volume-areas' && entry.id === id) Object.assign(areas, entry.areas);
    if (entry.type === 'volume-swap' && entry.id === id) {
      const { area: before, list, size, root } = entry;
      Object.assign(areas, { before, list, size, root });
    }
    if (entry.type === 'volume-ended' && entry.id === id) {
      const { now, kept } = entry;
      areas.ended = { now, ...(kept === undefined ? {} : { kept }) };
    }
  }
  return areas;
}
