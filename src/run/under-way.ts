import { hasErrno } from '../base/errors.ts';
import { type JournalEntry, openJournals, processStart, readJournal } from './journal.ts';
import { openHolds } from './release.ts';

/** Distinguishes runs in progress from those that have died or are being undone, by their journals. */

/** The agent that calls these functions. */
export interface Here {
  /** id of the agent's own container */
  agentId: string;
  /**
   * Returns whether another agent's container runs, because a spool can be shared. Default: other agents do not run.
   */
  isRunning?(agent: string): Promise<boolean>;
}

/** A run whose process is alive. */
export interface UnderWay {
  file: string;
  start: JournalEntry & { type: 'start' };
}

/**
 * Returns the runs that are under way, oldest first. The lock does not show this: recovery, prunes and copies hold it
 * too, without a journal.
 */
export async function runsUnderWay(journals: string, here: Here): Promise<UnderWay[]> {
  const found: UnderWay[] = [];
  for (const file of await openJournals(journals)) {
    // The journal of a run that has just ended is gone.
    const entries = await readJournal(file).catch((): JournalEntry[] => []);
    const start = entries.find((entry) => entry.type === 'start');
    if (start && (await isUnderWay(entries, start, here))) found.push({ file, start });
  }
  return found;
}

/**
 * Returns the ids of the containers that runs under way have stopped and not started again. `journals`: the directory
 * of the journals.
 */
export async function stoppedByRuns(journals: string, here: Here): Promise<Set<string>> {
  const stopped = new Set<string>();
  for (const { file } of await runsUnderWay(journals, here)) {
    const entries = await readJournal(file).catch((): JournalEntry[] => []);
    for (const { container, stop } of openHolds(entries)) if (stop) stopped.add(container.id);
  }
  return stopped;
}

async function isUnderWay(
  entries: readonly JournalEntry[],
  { agent, pid, since }: JournalEntry & { type: 'start' },
  { agentId, isRunning }: Here,
): Promise<boolean> {
  // A run is reported at its end. After that, it is only being undone.
  if (entries.some(({ type }) => type === 'reported')) return false;
  if (agent !== undefined && agent !== agentId) return (await isRunning?.(agent)) ?? false;
  return pid !== undefined && isAlive(pid, since);
}

/** Returns whether the process that wrote the journal is alive. Process ids are reused, above all after a restart. */
function isAlive(pid: number, since: string | undefined): boolean {
  const start = processStart(pid);
  if (start !== undefined && since !== undefined) return start === since;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return hasErrno(error, 'EPERM');
  }
}
