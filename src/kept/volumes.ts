import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Mount } from '../plan/model.ts';
import { appendJournal, type JournalEntry, openJournals, readJournal } from '../run/journal.ts';
import type { Rollback, State } from '../run/state.ts';
import type { Reach } from '../sources/source.ts';
import { HELPER_ROOT, pathInAgent } from '../sources/volume.ts';
import type { Exchanged, VolumeArea } from '../store/exchange/volume-areas.ts';
import type { TreeStore } from '../trees/runner.ts';

/** Volumes that a restore works in, and what it keeps there beside the data. */

/** Where a volume is worked on. */
export interface VolumePlace {
  root: string;
  reach: Reach;
  /** by which it is found again wherever it is reached from; absent for a directory of the agent */
  mount?: Mount;
}

/** One restore or rollback, as it is recorded. */
interface VolumeRun {
  id: string;
  /** the journal's file */
  journal: string;
  signal: AbortSignal;
}

/** Where the volume of a mount can be written to: where the agent has it, else in a helper. */
export function volumePlace(mount: Mount, agentMounts: readonly Mount[]): VolumePlace {
  const here = pathInAgent(
    mount,
    agentMounts.filter(({ writable }) => writable),
  );
  if (here !== undefined) return { root: here, reach: { kind: 'process' }, mount };
  return { root: HELPER_ROOT, reach: { kind: 'helper', mount }, mount };
}

/** What people call a volume. */
export function volumeName({ name, source }: Mount): string {
  return name ?? source;
}

/** What working in a volume needs. */
interface VolumeDeps {
  treeStore: TreeStore;
  log: Log;
  agentMounts: readonly Mount[];
}

/** What people call the place that is worked on. */
function placeName({ root, mount }: VolumePlace): string {
  return mount ? volumeName(mount) : root;
}

/** What an exchange in a volume came to: `Exchanged`, of which not all is known where its end was cut off. */
type VolumeExchange = Pick<Exchanged, 'area'> & Partial<Pick<Exchanged, 'swapMs'>>;

interface RollBackVolumeOptions {
  deps: VolumeDeps;
  place: VolumePlace;
  restore: string;
  run: VolumeRun;
  now: Date;
}

/**
 * Brings back the data that is kept of a restore; what it replaces is kept the same way. All of it or, when it is cut
 * off, nothing.
 *
 * Errors: NOTHING_TO_ROLL_BACK; TREE_TARGET_REFUSED; TREE_STALLED; TREE_HALF_RESTORED; those of a helper.
 */
export async function rollBackVolume({
  deps,
  place,
  restore,
  run,
  now,
}: RollBackVolumeOptions): Promise<VolumeExchange> {
  const { id, journal, signal } = run;
  appendJournal(journal, { type: 'volume', id, ...place });
  const job = { kind: 'roll-back' as const, root: place.root, id, at: now.toISOString(), journal, restore };
  const context = { reach: place.reach, runId: id, journal, signal, progress: () => undefined };
  const done = await orTakenBack(deps, place, run, () => deps.treeStore.volume(job, context));
  appendJournal(journal, { type: 'volume-done', id });
  return done;
}

/**
 * Finds out whether the data that is kept of a restore could be brought back, before anything is stopped for it.
 *
 * Errors: NOTHING_TO_ROLL_BACK; TREE_TARGET_REFUSED; those of a helper.
 */
export async function checkRollBack(
  { treeStore }: Pick<VolumeDeps, 'treeStore'>,
  { root, reach }: VolumePlace,
  restore: string,
  { id, journal, signal }: VolumeRun,
): Promise<void> {
  const job = { kind: 'roll-back' as const, root, id, at: '', journal, restore, check: true };
  await treeStore.volume(job, { reach, runId: id, journal, signal, progress: () => undefined });
}

/**
 * An exchange that is cut off is taken back at once: what was stopped for it must not be started on a volume that is neither
 * the old nor the new, and whatever that wrote there would go with what is taken back.
 *
 * @throws what `exchange` does, when everything is as it was; TREE_HALF_RESTORED when it could not be taken back
 */
export async function orTakenBack(
  deps: VolumeDeps,
  place: VolumePlace,
  { id, journal }: VolumeRun,
  exchange: () => Promise<Exchanged>,
): Promise<VolumeExchange> {
  try {
    return await exchange();
  } catch (error) {
    const { done, now } = await undoVolumes(deps, await readJournal(journal), journal);
    // Where nothing was moved yet it is as it was, whatever could not be tidied up.
    if (!done) throw halfSwapped(await readJournal(journal)).length > 0 ? halfRestored(place, error) : error;
    if (now !== 'new') throw error;
    // It was complete; only what tidies up was cut off.
    const areas = await keptIn(deps.treeStore, place, id, AbortSignal.timeout(LIMIT_MS));
    const kept = areas.some((area) => area.kind === 'before' && area.id === id);
    return kept ? { area: id } : {};
  }
}

function halfRestored(place: VolumePlace, cause?: unknown): LifeboatError {
  return new LifeboatError(
    'TREE_HALF_RESTORED',
    `${placeName(place)} holds neither the old data nor the new: a swap was cut off`,
    {
      ...(cause === undefined ? {} : { cause }),
      hint: 'Nothing of either is lost. Taking it back is tried again every minute, and what uses the volume stays stopped until then: the log says what is in the way.',
    },
  );
}

/** True for what {@link orTakenBack} throws of a volume that nobody may use now. */
export function isHalfRestored(error: unknown): boolean {
  return hasCode(error, 'TREE_HALF_RESTORED');
}

/**
 * Refuses a volume while what another restore left half done there is not taken back: a backup would store a mixture, and what
 * a restore puts there would be taken away with the rest. `own`: the journal of whoever asks.
 *
 * @throws TREE_HALF_RESTORED
 */
export async function checkWhole(journals: string, own: string, place: VolumePlace): Promise<void> {
  const where = (one: VolumePlace) => `${one.mount?.type ?? ''} ${placeName(one)}`;
  for (const file of await openJournals(journals)) {
    if (file === own) continue;
    if (halfSwapped(await readJournal(file)).some((open) => where(open) === where(place))) throw halfRestored(place);
  }
}

/** Deletes what is kept of a restore, for good. */
export async function forgetVolume(
  treeStore: TreeStore,
  { root, reach }: VolumePlace,
  restore: string,
  { id, journal, signal }: VolumeRun,
): Promise<void> {
  const context = { reach, runId: id, journal, signal, progress: () => undefined };
  await treeStore.volume({ kind: 'forget', root, restore }, context);
}

/** What restores keep in a volume. */
export async function keptIn(
  treeStore: TreeStore,
  { root, reach }: VolumePlace,
  runId: string,
  signal: AbortSignal,
): Promise<VolumeArea[]> {
  return treeStore.volume({ kind: 'areas', root }, { reach, runId, signal, progress: () => undefined });
}

/**
 * A rollback as its volume shows it: undefined when nothing that it would bring back is there. Which data is in use is told
 * by the area: whoever exchanged it may have died before it was remembered.
 */
export function asInVolume(one: Rollback, areas: readonly VolumeArea[]): Rollback | undefined {
  const area = areas.find(({ restore, holds }) => restore === one.id && holds !== undefined);
  if (!area) return undefined;
  return { ...one, inUse: area.holds === 'before' ? 'restored' : 'before', volume: { area: area.id } };
}

/** Makes what is remembered of the restores into a volume equal to what it holds. Only for whoever holds the lock. */
export async function refreshKeptVolume(state: State, source: string, areas: readonly VolumeArea[]): Promise<void> {
  const all = await state.rollbacks();
  const now = all.flatMap((one) => {
    return one.source === source && one.volume ? (asInVolume(one, areas) ?? []) : one;
  });
  if (JSON.stringify(now) !== JSON.stringify(all)) await state.saveRollbacks(now);
}

/** The work on volumes that a journal shows as begun and not ended. */
export function openVolumes(entries: readonly JournalEntry[]): (JournalEntry & { type: 'volume' })[] {
  const done = new Set(entries.flatMap((entry) => (entry.type === 'volume-done' ? [entry.id] : [])));
  return entries.filter((entry) => entry.type === 'volume').filter(({ id }) => !done.has(id));
}

/** Those of them that may be neither the old nor the new. */
export function halfSwapped(entries: readonly JournalEntry[]): (JournalEntry & { type: 'volume' })[] {
  const begun = new Set(entries.flatMap((entry) => (entry.type === 'volume-swap' ? [entry.id] : [])));
  return openVolumes(entries).filter(({ id }) => begun.has(id));
}

/** How long taking back may take, milliseconds; renames are quick, and what was built is deleted. */
const LIMIT_MS = 30 * 60_000;

/**
 * Takes back what a dead restore or rollback left half done in volumes, or finishes what only had to be tidied up.
 * Failures are logged.
 *
 * @returns whether nothing is left to be tried again, and which data is in place where that was told
 */
export async function undoVolumes(
  { treeStore, log, agentMounts }: VolumeDeps,
  entries: readonly JournalEntry[],
  journal: string,
): Promise<{ done: boolean; now?: 'old' | 'new' }> {
  const result: { done: boolean; now?: 'old' | 'new' } = { done: true };
  for (const open of openVolumes(entries)) {
    const { id } = open;
    // The agent may have been made anew since, with other mounts.
    const { root, reach } = open.mount ? volumePlace(open.mount, agentMounts) : open;
    try {
      const signal = AbortSignal.timeout(LIMIT_MS);
      const context = { reach, runId: id, journal, signal, progress: () => undefined };
      const { now } = await treeStore.volume({ kind: 'undo', root, id }, context);
      appendJournal(journal, { type: 'volume-done', id, now });
      result.now = now;
    } catch (error) {
      log.warn('a half restored volume could not be put right', { volume: placeName(open), ...errorInfo(error) });
      result.done = false;
    }
  }
  for (const entry of entries) if (entry.type === 'volume-done' && entry.now) result.now ??= entry.now;
  return result;
}
