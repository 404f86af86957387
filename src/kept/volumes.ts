import { errorInfo, hasCode, LifeboatError, toLifeboatError } from '../base/errors.ts';
import type { ProgressSink } from '../report/events.ts';
import { appendJournal, openJournals, readJournal } from '../run/journal.ts';
import type { Rollback } from '../run/state.ts';
import type { Exchanged } from '../store/exchange/exchange.ts';
import { isKnown, type KnownArea, type PendingArea } from '../store/exchange/known-area.ts';
import type { VolumeArea } from '../store/exchange/list-areas.ts';
import type { TreeStore } from '../trees/runner.ts';
import type { SwapJob } from '../trees/volume-job.ts';
import { type Complete, halfSwapped, noteDone, type Undone, undoVolumes, warnLeft } from './undo-volumes.ts';
import { placeName, type VolumeDeps, type VolumePlace, type VolumeRun } from './volume-place.ts';
import { keptAreaOf } from './volume-records.ts';

/** Volumes that restores and rollbacks change, and the data that they put aside in them. */

/** The result of an exchange in a volume. It is incomplete if the exchange was cut off at its end. */
interface VolumeExchange extends Partial<Pick<Exchanged, 'kept' | 'swapMs'>> {
  /** about a record that could not be saved; recovery completes it from the journal */
  warnings: string[];
}

/** The restore whose old data is meant, and the record of that data. */
type KeptInVolume = Pick<Rollback, 'id' | 'volume'>;

/** Returns the record of old data. @throws NOTHING_TO_ROLL_BACK if it is incomplete */
function recordOf({ id, volume }: KeptInVolume): KnownArea {
  if (volume && isKnown(volume)) return volume;
  throw new LifeboatError('NOTHING_TO_ROLL_BACK', `the record of the old data of restore ${id} is incomplete`, {
    hint: 'Lifeboat completes the record when it can write to the spool and to the volume. Check the free space of both, and run the command again.',
  });
}

interface RollBackVolumeOptions {
  deps: VolumeDeps;
  place: VolumePlace;
  chosen: KeptInVolume;
  run: VolumeRun;
  now: Date;
  /** saves the record of the data that is put aside now; absent: none */
  save(kept: KnownArea | undefined): Promise<unknown>;
}

/**
 * Brings back the old data of a restore, and puts the present data aside. A rollback that is cut off is reversed.
 *
 * @throws NOTHING_TO_ROLL_BACK, TREE_TARGET_REFUSED, TREE_STALLED, TREE_HALF_RESTORED, the errors of a helper
 */
export async function rollBackVolume({
  deps,
  place,
  chosen,
  run,
  now,
  save,
}: RollBackVolumeOptions): Promise<VolumeExchange> {
  const { id, journal, signal } = run;
  appendJournal(journal, { type: 'volume', id, ...place });
  const about = { restore: chosen.id, known: recordOf(chosen) };
  const job = { kind: 'roll-back' as const, root: place.root, id, at: now.toISOString(), journal, ...about };
  const context = { reach: place.reach, runId: id, journal, signal, progress: () => undefined };
  const withdraw = async () => undefined;
  return orTakenBack(deps, place, run, { exchange: () => deps.treeStore.volume(job, context), save, withdraw });
}

interface SwapVolumeOptions {
  deps: VolumeDeps;
  place: VolumePlace;
  run: VolumeRun;
  /** what was built, and how it replaces the present data: see `SwapJob` */
  built: Pick<SwapJob, 'areas' | 'whole' | 'empty' | 'snapshot'>;
  now: Date;
  progress: ProgressSink;
  /** saves the record of old data; called without it if there is none. Absent: nothing is put aside */
  keep: ((volume?: KnownArea | PendingArea) => Promise<unknown>) | undefined;
}

/**
 * Moves what a restore has built in a volume into place, and records the replaced data first. Throws like
 * {@link orTakenBack}.
 */
export async function swapVolume(options: SwapVolumeOptions): Promise<VolumeExchange> {
  const { deps, place, run, built, now, progress, keep } = options;
  const { id, journal, signal } = run;
  await keep?.({ area: id, root: built.areas.root });
  const job = { kind: 'swap' as const, root: place.root, id, at: now.toISOString(), journal, ...built };
  const exchange = () => deps.treeStore.volume(job, { reach: place.reach, runId: id, journal, signal, progress });
  // The record is complete before services start, which may change the owner of the old data.
  const save = async (volume?: KnownArea) => keep?.(volume);
  return orTakenBack(deps, place, run, { exchange, save, withdraw: () => save() });
}

/**
 * Checks that the old data of a restore can be brought back, before services are stopped for it.
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

interface Recorded {
  exchange(): Promise<Exchanged>;
  /** saves the record of the data that the exchange put aside; absent: none */
  save(kept: KnownArea | undefined): Promise<unknown>;
  /** removes the record that was saved before the exchange, which is taken back */
  withdraw(): Promise<unknown>;
}

/**
 * Runs an exchange, and reverses it at once if it is cut off. Services must not start on a volume that mixes old and
 * new data, and the reversal would remove what they write there. The journal shows the exchange as done only once its
 * record is correct.
 *
 * @throws the error of `exchange` if the volume is as it was before; TREE_HALF_RESTORED if the reversal failed. An
 * exchange that is complete never fails.
 */
export async function orTakenBack(
  deps: VolumeDeps,
  place: VolumePlace,
  { id, journal }: VolumeRun,
  { exchange, save, withdraw }: Recorded,
): Promise<VolumeExchange> {
  let done: Omit<VolumeExchange, 'warnings'>;
  try {
    const { left, ...exchanged } = await exchange();
    warnLeft(deps.log, placeName(place), left);
    done = exchanged;
  } catch (error) {
    let undone: Undone | undefined;
    const complete: Complete = async (found) => {
      undone = found;
      if (found.now === 'old') await withdraw();
      return found.now !== 'new';
    };
    const { now } = await undoVolumes(deps, await readJournal(journal), { journal, complete });
    const entries = await readJournal(journal);
    // If nothing was moved yet, the volume is unchanged, even if temporary files are left.
    if (now === undefined) throw halfSwapped(entries).length > 0 ? halfRestored(place, error) : error;
    if (now !== 'new') throw error;
    // The exchange was complete, and only its cleanup was cut off.
    const kept = undone?.kept === false ? undefined : keptAreaOf(entries, id);
    done = kept ? { kept } : {};
  }
  try {
    await save(done.kept);
  } catch (unsaved) {
    deps.log.warn('the record of old data could not be saved', { ...errorInfo(unsaved) });
    return { ...done, warnings: [unsavedWarning(unsaved)] };
  }
  noteDone(deps, journal, { type: 'volume-done', id, now: 'new' });
  return { ...done, warnings: [] };
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

/** Returns the warning about a record that could not be saved after a swap. Recovery or the next command saves it. */
export function unsavedWarning(error: unknown): string {
  return `the record of the old data could not be saved: ${toLifeboatError(error).message}. Lifeboat tries again every minute`;
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
 * Deletes the old data of a restore. `begin` is called once the data is recognised, to record that its deletion
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
  const forgotten = { ...known, forgotten: true as const };
  await begin(forgotten);
  await treeStore.volume({ kind: 'forget', root, known: forgotten }, context);
}

/** Reads the areas of old data in a volume. `known`: the recorded ones. */
export async function keptIn(
  treeStore: TreeStore,
  { root, reach }: VolumePlace,
  run: { runId: string; signal: AbortSignal },
  known: readonly KnownArea[],
): Promise<VolumeArea[]> {
  return treeStore.volume({ kind: 'areas', root, known }, { reach, ...run, progress: () => undefined });
}
