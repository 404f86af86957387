import { appendFileSync, closeSync, fdatasyncSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Hook, Mount } from '../plan/model.ts';
import type { RestoreStart, RunStart } from '../report/events.ts';
import type { Earlier } from '../report/tries.ts';
import type { Reach } from '../sources/source.ts';

/** A container of the user, by what survives its being recreated. */
export interface ContainerRef {
  id: string;
  name: string;
  project: string;
  service: string;
}

/** Where a rollback began: the restore that it is of, and which data was in use. */
export interface RolledBackFrom {
  id: string;
  inUse: 'restored' | 'before';
}

/** How far a dead restore or rollback had come. `half`: a volume is neither old nor new now; `unknown`: it cannot be told now. */
export type Reached = 'nothing' | 'half' | 'swapped' | 'unknown';

/**
 * What a run is about to do to the world. `agent` is the container it runs in: with a spool that is shared, `pid` alone
 * says nothing. `since` is the start of that process, see {@link processStart}. Each is written before it is done (invariant 37), so that the next start can
 * undo what a killed run left.
 */
export type JournalEntry =
  /** `earlier`: the results of the tries before this one, which its report covers too */
  | { type: 'start'; verb: 'backup'; run: RunStart; earlier?: Earlier; agent?: string; pid?: number; since?: string }
  | { type: 'start'; verb: 'restore'; id: string; agent?: string; pid?: number; since?: string }
  /** a restore or rollback that has looked and been agreed to: from here on it changes something, and is told of */
  | { type: 'begun'; restore: RestoreStart; from?: RolledBackFrom }
  /** `reached`: how far a dead restore had come, where that was found out */
  | { type: 'reported'; reached?: Reached }
  | { type: 'helper'; name: string }
  | { type: 'object'; key: string }
  /** the manifest of a backup is about to be sent: from here on it may appear at any time */
  | { type: 'commit' }
  | { type: 'database'; source: string; name: string; what: 'restoring' | 'before' }
  | { type: 'database-done'; source: string; name: string }
  /** a restore of several databases: each is swapped for itself, in this order */
  | { type: 'targets'; targets: string[] }
  /** a restored database has its name */
  | { type: 'swapped'; target: string }
  /** a database of several could not be restored, and is as it was */
  | { type: 'failed'; target: string }
  /** tables are about to go into a database that is in use, by their names there */
  | { type: 'copying'; tables: string[] }
  /** a volume is worked in from here on, see kept/volumes.ts */
  | { type: 'volume'; id: string; root: string; reach: Reach; mount?: Mount }
  /** from here on it may be neither the old nor the new, until it is done */
  | { type: 'volume-swap'; id: string }
  /** `now`: which data is in it */
  | { type: 'volume-done'; id: string; now?: 'old' | 'new' }
  /**
   * `startedAt`: its last start, as the engine tells it; `at`: when the stop was asked for (ISO time); `timeout`: the seconds that
   * the container is given; `until`: the stop is over by then, whatever it comes to
   */
  | { type: 'stop'; container: ContainerRef; startedAt?: string; at?: string; timeout?: number; until?: string }
  /** the agent was asked to end at that ISO time, together with other services: whether all of the project was is known later */
  | { type: 'project-stop'; container: ContainerRef; at: string }
  /** it runs again, or is left stopped because a user stopped it */
  | { type: 'started'; container: ContainerRef }
  | { type: 'hook'; container: ContainerRef; post: Hook }
  /** `pre` is about to run as this command of the engine; by `until` (ISO time) it is not waited for any more */
  | { type: 'pre'; container: ContainerRef; exec: string; until: string }
  | { type: 'hook-done'; container: ContainerRef };

/** Appends one entry; it is on the disk when this returns. Also called by helpers of ours, on the same file. */
export function appendJournal(file: string, entry: JournalEntry): void {
  const fd = openSync(file, 'a', 0o600);
  try {
    // The line break before it keeps it apart from a line that a full disk or a crash cut off.
    appendFileSync(fd, `\n${JSON.stringify(entry)}\n`);
    fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Reads what {@link appendJournal} wrote. A line cut off by a crash is passed over: it announced nothing done yet. */
export async function readJournal(file: string): Promise<JournalEntry[]> {
  const lines = (await readFile(file, 'utf8')).split('\n');
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line) as JournalEntry];
    } catch {
      return [];
    }
  });
}

/** The objects that a run may have stored, as its journal announced them. */
export async function journalObjects(file: string): Promise<string[]> {
  return (await readJournal(file)).flatMap((entry) => (entry.type === 'object' ? [entry.key] : []));
}

/** The journals of runs that have not ended, oldest first. */
export async function openJournals(directory: string): Promise<string[]> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const names = await readdir(directory);
  return names
    .filter((name) => name.endsWith('.ndjson'))
    .sort()
    .map((name) => path.join(directory, name));
}

/**
 * When a process started, in clock ticks since the host did: with its number it names one process, which the number alone
 * does not (proc(5), /proc/pid/stat, field 22). undefined where there is no such process, or no /proc.
 */
export function processStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the name of the program, which may hold blanks and brackets.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

/** The journal of a backup or restore that begins. */
export class Journal {
  readonly file: string;

  constructor(directory: string, start: JournalEntry & { type: 'start' }) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.file = path.join(directory, `${start.verb === 'backup' ? start.run.id : start.id}.ndjson`);
    const since = processStart(process.pid);
    this.record({ ...start, pid: process.pid, ...(since === undefined ? {} : { since }) });
  }

  record(entry: JournalEntry): void {
    appendJournal(this.file, entry);
  }

  /** The run has ended and everything is undone or kept on purpose. */
  async close(): Promise<void> {
    await rm(this.file, { force: true });
  }
}
