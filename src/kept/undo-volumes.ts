import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { appendJournal, type JournalEntry } from '../run/journal.ts';
import type { State } from '../run/state.ts';
import type { KnownArea } from '../store/exchange/known-area.ts';
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
  const begun = new Set(entries.flatMap((entry) => (entry.type === 'volume-swap' ? [entry.id] : [])));
  return openVolumes(entries).filter(({ id }) => begun.has(id) && areasOf(entries, id).ended === undefined);
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
 * @returns `done`: nothing remains to be retried; `now`: the data that is in place, if the volume showed it; `kept`:
 *   the area with the replaced data
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
      const job = { kind: 'undo' as const, root, id, journal, areas: areasOf(entries, id) };
      const { now, kept, left } = await treeStore.volume(job, context);
      const known = now === 'unknown' ? {} : { now };
      Object.assign(result, known, kept ? { kept } : {});
      warnLeft(log, placeName(open), left);
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
