import { errorInfo } from './errors.ts';
import { appendJournal, type JournalEntry } from './journal.ts';
import type { Log } from './log.ts';
import type { Mount } from './plan/model.ts';
import type { Reach } from './sources/source.ts';
import { HELPER_ROOT, pathInAgent } from './sources/volume.ts';
import type { Rollback, State } from './state.ts';
import type { Exchanged, VolumeArea } from './store/volume-areas.ts';
import type { TreeStore } from './tree-store.ts';

/** Volumes that a restore works in, and what it keeps there beside the data. */

/** Where a volume is worked on. */
export interface VolumePlace {
  root: string;
  reach: Reach;
}

/** One restore or rollback, as it is recorded. */
export interface VolumeRun {
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
  if (here !== undefined) return { root: here, reach: { kind: 'process' } };
  return { root: HELPER_ROOT, reach: { kind: 'helper', mount } };
}

/** What people call a volume. */
export function volumeName({ name, source }: Mount): string {
  return name ?? source;
}

/**
 * Brings back the data that is kept of a restore; what it replaces is kept the same way. All of it or, when it is cut
 * off, nothing.
 *
 * Errors: NOTHING_TO_ROLL_BACK; TREE_TARGET_REFUSED; TREE_STALLED; those of a helper.
 */
export async function rollBackVolume(
  treeStore: TreeStore,
  place: VolumePlace,
  restore: string,
  { id, journal, signal }: VolumeRun,
  now: Date,
): Promise<Exchanged> {
  appendJournal(journal, { type: 'volume', id, ...place });
  const job = { kind: 'roll-back' as const, root: place.root, id, at: now.toISOString(), restore };
  const done = await treeStore.volume(job, {
    reach: place.reach,
    runId: id,
    journal,
    signal,
    progress: () => undefined,
  });
  appendJournal(journal, { type: 'volume-done', id });
  return done;
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

/** How long taking back may take, milliseconds; renames are quick, and what was built is deleted. */
const LIMIT_MS = 30 * 60_000;

/**
 * Takes back what a dead restore or rollback left half done in volumes, or finishes what only had to be tidied up.
 * Failures are logged.
 *
 * @returns whether nothing is left to be tried again, and which data is in place where that was told
 */
export async function undoVolumes(
  { treeStore, log }: { treeStore: TreeStore; log: Log },
  entries: readonly JournalEntry[],
  journal: string,
): Promise<{ done: boolean; now?: 'old' | 'new' }> {
  const result: { done: boolean; now?: 'old' | 'new' } = { done: true };
  for (const { id, root, reach } of openVolumes(entries)) {
    try {
      const signal = AbortSignal.timeout(LIMIT_MS);
      const context = { reach, runId: id, journal, signal, progress: () => undefined };
      const { now } = await treeStore.volume({ kind: 'undo', root, id }, context);
      appendJournal(journal, { type: 'volume-done', id, now });
      result.now = now;
    } catch (error) {
      const volume = reach.kind === 'helper' ? volumeName(reach.mount) : root;
      log.warn('a half restored volume could not be put right', { volume, ...errorInfo(error) });
      result.done = false;
    }
  }
  for (const entry of entries) if (entry.type === 'volume-done' && entry.now) result.now ??= entry.now;
  return result;
}
