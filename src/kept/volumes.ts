import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Mount } from '../plan/model.ts';
import { appendJournal, type JournalEntry, openJournals, readJournal } from '../run/journal.ts';
import type { Rollback, State } from '../run/state.ts';
import type { Reach } from '../sources/source.ts';
import { HELPER_ROOT, pathInAgent } from '../sources/volume.ts';
import { isKnown, type KnownArea } from '../store/exchange/known-area.ts';
import type { VolumeArea } from '../store/exchange/list-areas.ts';
import type { Exchanged } from '../store/exchange/volume-areas.ts';
import type { TreeStore } from '../trees/runner.ts';
import { areasOf, completeKeptVolume, withdrawKeptVolume } from './volume-records.ts';

/** Volumes that restores and rollbacks change, and the data that they put aside in them. */

/** Where a volume can be reached. */
export interface VolumePlace {
  root: string;
  reach: Reach;
  /** identifies the volume, whatever path it has; absent for a directory of the agent */
  mount?: Mount;
}

/** The restore or rollback that works in a volume. */
interface VolumeRun {
  id: string;
  /** the journal's file */
  journal: string;
  signal: AbortSignal;
}

/** Returns where the volume of a mount can be written to: in the agent if the agent mounts it, else in a helper. */
export function volumePlace(mount: Mount, agentMounts: readonly Mount[]): VolumePlace {
  const here = pathInAgent(
    mount,
    agentMounts.filter(({ writable }) => writable),
  );
  if (here !== undefined) return { root: here, reach: { kind: 'process' }, mount };
  return { root: HELPER_ROOT, reach: { kind: 'helper', mount }, mount };
}

/** Returns the name of a volume as messages show it. */
export function volumeName({ name, source }: Mount): string {
  return name ?? source;
}

interface VolumeDeps {
  treeStore: TreeStore;
  log: Log;
  agentMounts: readonly Mount[];
}

function placeName({ root, mount }: VolumePlace): string {
  return mount ? volumeName(mount) : root;
}

/** The result of an exchange in a volume. It is incomplete if the exchange was cut off at its end. */
type VolumeExchange = Partial<Omit<Exchanged, 'left'>>;

/** The restore whose put-aside data is meant, and the record of that data. */
type KeptInVolume = Pick<Rollback, 'id' | 'volume'>;

/** Returns the record of put-aside data. @throws NOTHING_TO_ROLL_BACK if the exchange is not complete */
function recordOf({ id, volume }: KeptInVolume): KnownArea {
  if (volume && isKnown(volume)) return volume;
  throw new LifeboatError('NOTHING_TO_ROLL_BACK', `the record of the put-aside data of restore ${id} is incomplete`, {
    hint: 'Lifeboat completes the record when it can write to the spool and to the volume. Check the free space of both, and run the command again.',
  });
}

interface RollBackVolumeOptions {
  deps: VolumeDeps;
  place: VolumePlace;
  chosen: KeptInVolume;
  run: VolumeRun;
  now: Date;
}

/**
 * Brings back the put-aside data of a restore, and puts the present data aside. A rollback that is cut off is reversed.
 *
 * @throws NOTHING_TO_ROLL_BACK, TREE_TARGET_REFUSED, TREE_STALLED, TREE_HALF_RESTORED, the errors of a helper
 */
export async function rollBackVolume({
  deps,
  place,
  chosen,
  run,
  now,
}: RollBackVolumeOptions): Promise<VolumeExchange> {
  const { id, journal, signal } = run;
  appendJournal(journal, { type: 'volume', id, ...place });
  const about = { restore: chosen.id, known: recordOf(chosen) };
  const job = { kind: 'roll-back' as const, root: place.root, id, at: now.toISOString(), journal, ...about };
  const context = { reach: place.reach, runId: id, journal, signal, progress: () => undefined };
  const done = await orTakenBack(deps, place, run, () => deps.treeStore.volume(job, context));
  noteDone(deps, journal, { type: 'volume-done', id });
  return done;
}

/**
 * Checks that the put-aside data of a restore can be brought back, before services are stopped for it.
 *
 * @throws NOTHING_TO_ROLL_BACK, TREE_TARGET_REFUSED, the errors of a helper
 */
export async function checkRollBack(
  { treeStore }: Pick<VolumeDeps, 'treeStore'>,
  { root, reach }: VolumePlace,
  chosen: KeptInVolume,
  { id, journal, signal }: VolumeRun,
): Promise<void> {
  const about = { restore: chosen.id, known: recordOf(chosen), check: true };
  const job = { kind: 'roll-back' as const, root, id, at: '', journal, ...about };
  await treeStore.volume(job, { reach, runId: id, journal, signal, progress: () => undefined });
}

/**
 * Runs an exchange, and reverses it at once if it is cut off. Services must not start on a volume that mixes old and
 * new data, and the reversal would remove what they write there.
 *
 * @throws the error of `exchange` if the volume is as it was before; TREE_HALF_RESTORED if the reversal failed
 */
export async function orTakenBack(
  deps: VolumeDeps,
  place: VolumePlace,
  { journal }: VolumeRun,
  exchange: () => Promise<Exchanged>,
): Promise<VolumeExchange> {
  try {
    const { left, ...done } = await exchange();
    warnLeft(deps.log, placeName(place), left);
    return done;
  } catch (error) {
    const { done, now, kept } = await undoVolumes(deps, await readJournal(journal), journal);
    // If nothing was moved yet, the volume is unchanged, even if temporary files are left.
    if (!done) throw halfSwapped(await readJournal(journal)).length > 0 ? halfRestored(place, error) : error;
    if (now !== 'new') throw error;
    // The exchange was complete, and only its cleanup was cut off.
    return kept ? { kept } : {};
  }
}

function halfRestored(place: VolumePlace, cause?: unknown): LifeboatError {
  return new LifeboatError(
    'TREE_HALF_RESTORED',
    `${placeName(place)} holds neither the old data nor the new: a swap was cut off`,
    {
      ...(cause === undefined ? {} : { cause }),
      hint: 'No data is lost. Lifeboat tries every minute to reverse the swap. Services that use the volume stay stopped until then. The log says what prevents it.',
    },
  );
}

/** True for the error of {@link orTakenBack} about a volume that nothing may use now. */
export function isHalfRestored(error: unknown): boolean {
  return hasCode(error, 'TREE_HALF_RESTORED');
}

/**
 * Refuses a volume in which another restore was cut off and is not reversed yet. A backup would store a mixture, and
 * the reversal would remove the files of a new restore.
 *
 * @param own the journal of the caller, which is ignored
 * @throws TREE_HALF_RESTORED
 */
export async function checkWhole(journals: string, own: string, place: VolumePlace): Promise<void> {
  const where = (one: VolumePlace) => `${one.mount?.type ?? ''} ${placeName(one)}`;
  for (const file of await openJournals(journals)) {
    if (file === own) continue;
    if (halfSwapped(await readJournal(file)).some((open) => where(open) === where(place))) throw halfRestored(place);
  }
}

/**
 * Deletes the put-aside data of a restore. `begin` is called once the data is recognised, to record that its deletion
 * begins: nothing can be brought back from then on.
 */
export async function forgetVolume(
  treeStore: TreeStore,
  { root, reach }: VolumePlace,
  chosen: KeptInVolume,
  { id, journal, signal, begin }: VolumeRun & { begin(forgotten: KnownArea): Promise<void> },
): Promise<void> {
  const context = { reach, runId: id, journal, signal, progress: () => undefined };
  const known = recordOf(chosen);
  await treeStore.volume({ kind: 'forget', root, known, check: true }, context);
  await begin({ ...known, forgotten: true });
  await treeStore.volume({ kind: 'forget', root, known: { ...known, forgotten: true } }, context);
}

/** Reads the areas of put-aside data in a volume. `known`: the recorded ones. */
export async function keptIn(
  treeStore: TreeStore,
  { root, reach }: VolumePlace,
  run: { runId: string; signal: AbortSignal },
  known: readonly KnownArea[],
): Promise<VolumeArea[]> {
  return treeStore.volume({ kind: 'areas', root, known }, { reach, ...run, progress: () => undefined });
}

/** Records a completed step. Without the entry, recovery examines the volume again, which does no harm. */
function noteDone({ log }: Pick<VolumeDeps, 'log'>, journal: string, entry: JournalEntry): void {
  try {
    appendJournal(journal, entry);
  } catch (error) {
    log.warn('the journal could not record that a volume is complete', { ...errorInfo(error) });
  }
}

/** Returns the volumes that a journal shows as started and not done. */
export function openVolumes(entries: readonly JournalEntry[]): (JournalEntry & { type: 'volume' })[] {
  const done = new Set(entries.flatMap((entry) => (entry.type === 'volume-done' ? [entry.id] : [])));
  return entries.filter((entry) => entry.type === 'volume').filter(({ id }) => !done.has(id));
}

/** Returns those of the open volumes that may hold a mixture of the old data and the new. */
export function halfSwapped(entries: readonly JournalEntry[]): (JournalEntry & { type: 'volume' })[] {
  const begun = new Set(entries.flatMap((entry) => (entry.type === 'volume-swap' ? [entry.id] : [])));
  return openVolumes(entries).filter(({ id }) => begun.has(id) && wholeIn(entries, id) === undefined);
}

/** Returns the data that a volume holds, if the journal shows that it is wholly old or new. */
function wholeIn(entries: readonly JournalEntry[], id: string): 'old' | 'new' | undefined {
  const whole = entries.flatMap((entry) => (entry.type === 'volume-whole' && entry.id === id ? [entry.now] : []));
  return whole.at(-1);
}

/** The result of reversing or completing what a restore or rollback began in volumes. */
interface Undone {
  done: boolean;
  now?: 'old' | 'new';
  kept?: KnownArea;
}

/** How long a reversal may take, milliseconds. Renames are quick, but restored files are deleted. */
const LIMIT_MS = 30 * 60_000;

/**
 * Reverses the unfinished work of a dead restore or rollback in volumes, or completes its cleanup. Failures are logged.
 *
 * @returns `done`: nothing remains to be retried; `now`: the data that is in place, if the volume showed it; `kept`: the
 *   area with the replaced data
 */
export async function undoVolumes(
  { treeStore, log, agentMounts }: VolumeDeps,
  entries: readonly JournalEntry[],
  journal: string,
): Promise<Undone> {
  const result: Undone = { done: true };
  for (const open of openVolumes(entries)) {
    const { id } = open;
    // The agent may have been recreated with other mounts.
    const { root, reach } = open.mount ? volumePlace(open.mount, agentMounts) : open;
    try {
      const signal = AbortSignal.timeout(LIMIT_MS);
      const context = { reach, runId: id, journal, signal, progress: () => undefined };
      const whole = wholeIn(entries, id);
      const about = { areas: areasOf(entries, id), ...(whole ? { now: whole } : {}) };
      const { now, kept, left } = await treeStore.volume({ kind: 'undo', root, id, journal, ...about }, context);
      Object.assign(result, { now, ...(kept ? { kept } : {}) });
      warnLeft(log, placeName(open), left);
      noteDone({ log }, journal, { type: 'volume-done', id, now });
    } catch (error) {
      log.warn('an unfinished restore in a volume could not be reversed', {
        volume: placeName(open),
        ...errorInfo(error),
      });
      result.done = false;
    }
  }
  for (const entry of entries) if (entry.type === 'volume-done' && entry.now) result.now ??= entry.now;
  return result;
}

/** Names the directories that an exchange left in a volume, because they are not its own or hold files. */
function warnLeft(log: Log, volume: string, left: readonly string[]): void {
  if (left.length > 0) log.warn('directories stay in the volume: inspect them, and delete them', { volume, left });
}

/**
 * Like {@link undoVolumes}, for a run that died: removes the record of put-aside data of a restore that was taken back,
 * and completes the one of an exchange that was complete. The caller must hold the lock.
 */
export async function recoverVolumes(
  deps: VolumeDeps & { state: State },
  entries: readonly JournalEntry[],
  journal: string,
): Promise<{ done: boolean; now?: 'old' | 'new' }> {
  const undone = await undoVolumes(deps, entries, journal);
  if (undone.now === 'old') await withdrawKeptVolume(deps.state, entries);
  if (undone.now === 'new') await completeKeptVolume(deps.state, entries);
  return undone;
}
