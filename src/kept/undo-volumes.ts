import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { appendJournal, type JournalEntry } from '../run/journal.ts';
import type { State } from '../run/state.ts';
import { placeName, type VolumeDeps, volumePlace } from './volume-place.ts';
import { areasOf, completeKeptVolume, withdrawKeptVolume } from './volume-records.ts';

/** Completing or reversing restores and rollbacks that were cut off in volumes. */

/** Records a completed step. Without the entry, recovery examines the volume again, which does no harm. */
export function noteDone({ log }: Pick<VolumeDeps, 'log'>, journal: string, entry: JournalEntry): void {
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
  const idsOf = (type: 'volume-swap' | 'volume-ended') =>
    new Set(entries.flatMap((entry) => (entry.type === type ? [entry.id] : [])));
  const [begun, ended] = [idsOf('volume-swap'), idsOf('volume-ended')];
  return openVolumes(entries).filter(({ id }) => begun.has(id) && !ended.has(id));
}

/** The most time for a reversal, milliseconds. Renames are quick, but restored files are deleted. */
const LIMIT_MS = 30 * 60_000;

/** The result of reversing an exchange: the data in place, and whether the area holds replaced data. */
export interface Undone {
  id: string;
  now: 'old' | 'new' | 'unknown';
  kept?: boolean;
}

/** Corrects the record of an exchange. Resolves to whether the journal may show the exchange as done. */
export type Complete = (undone: Undone) => Promise<boolean>;

interface UndoVolumesOptions {
  journal: string;
  /** called for each volume; absent: no record is kept of it */
  complete?: Complete;
}

/**
 * Reverses the unfinished work of a dead restore or rollback in volumes, or completes its cleanup. Failures are logged.
 *
 * @returns `done`: nothing remains to be retried; `now`: the data that is in place, if the volume showed it
 */
export async function undoVolumes(
  { treeStore, log, agentMounts }: VolumeDeps,
  entries: readonly JournalEntry[],
  { journal, complete = async () => true }: UndoVolumesOptions,
): Promise<{ done: boolean; now?: 'old' | 'new' }> {
  const result: { done: boolean; now?: 'old' | 'new' } = { done: true };
  for (const open of openVolumes(entries)) {
    const { id } = open;
    // The agent may have been recreated with other mounts.
    const { root, reach } = open.mount ? volumePlace(open.mount, agentMounts) : open;
    try {
      const signal = AbortSignal.timeout(LIMIT_MS);
      const context = { reach, runId: id, journal, signal, progress: () => undefined };
      const job = { kind: 'undo' as const, root, id, journal, areas: areasOf(entries, id) };
      const { now, kept, left } = await treeStore.volume(job, context);
      warnLeft(log, placeName(open), left);
      const known = now === 'unknown' ? {} : { now };
      Object.assign(result, known);
      if (await complete({ id, now, ...(kept === undefined ? {} : { kept }) }))
        noteDone({ log }, journal, { type: 'volume-done', id, ...known });
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
export function warnLeft(log: Log, volume: string, left: readonly string[]): void {
  if (left.length > 0) log.warn('directories stay in the volume: inspect them, and delete them', { volume, left });
}

/**
 * Like {@link undoVolumes}, for a run that ended or died: also removes the record of old data of a restore that
 * was taken back, and completes the one of an exchange that was complete. The caller must hold the lock.
 */
export async function recoverVolumes(
  deps: VolumeDeps & { state: State },
  entries: readonly JournalEntry[],
  journal: string,
): Promise<{ done: boolean; now?: 'old' | 'new' }> {
  const complete: Complete = async ({ id, now, kept }) => {
    if (now === 'old') await withdrawKeptVolume(deps.state, id);
    if (now === 'new') await completeKeptVolume(deps.state, entries, { id, kept });
    return true;
  };
  return undoVolumes(deps, entries, { journal, complete });
}
