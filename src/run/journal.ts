import { appendFileSync, closeSync, fdatasyncSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Hook, Mount } from '../plan/model.ts';
import type { RestoreReport, RestoreStart, RunStart } from '../report/events.ts';
import type { Earlier } from '../report/tries.ts';
import type { Reach } from '../sources/source.ts';
import type { Identity } from '../store/exchange/identity.ts';
import type { AreaRecord, Ended } from '../store/exchange/own-area.ts';
import { spoolError } from './spool.ts';

/** A container of the user, with the names that stay when it is recreated. */
export interface ContainerRef {
  id: string;
  name: string;
  project: string;
  service: string;
}

/** The start of a rollback: the restore that it reverts, and the data that was in use. */
export interface RolledBackFrom {
  id: string;
  inUse: 'restored' | 'before';
}

/**
 * The progress of a dead restore or rollback. `half`: a volume is neither old nor new; `unknown`: that cannot be found
 * out now.
 */
export type Reached = 'nothing' | 'half' | 'swapped' | 'unknown';

interface StopTimes {
  startedAt?: string;
  at?: string;
  timeout?: number;
  until?: string;
}

/**
 * A step that a run is about to take. Each entry is written before its step (invariant 37), so that the next start can
 * undo the steps of a killed run. `agent` is the container of the run, because agents that share a spool may have the
 * same `pid`. `since` is the start of that process, see {@link processStart}.
 */
export type JournalEntry =
  /** `earlier`: the results of the tries before this one, which its report covers too */
  | { type: 'start'; verb: 'backup'; run: RunStart; earlier?: Earlier; agent?: string; pid?: number; since?: string }
  /** `group`: id of the restore or rollback of all sources that it belongs to, whose journal has their stops */
  | { type: 'start'; verb: 'restore'; id: string; group?: string; agent?: string; pid?: number; since?: string }
  | {
      type: 'start';
      verb: 'drill';
      id: string;
      trigger?: 'schedule' | 'manual';
      agent?: string;
      pid?: number;
      since?: string;
    }
  /** a restore or rollback that is confirmed: from here on it changes data and is reported */
  | { type: 'begun'; restore: RestoreStart; from?: RolledBackFrom }
  /** the restore or rollback is over: its report is about to be stored and sent. That of a group covers its sources */
  | { type: 'ended'; report: RestoreReport }
  /** `reached`: how far a dead restore came, if that was found out */
  | { type: 'reported'; reached?: Reached }
  | { type: 'helper'; name: string }
  | { type: 'object'; key: string }
  /** the manifest of a backup is about to be sent: from here on it may appear at any time */
  | { type: 'commit' }
  | { type: 'database'; source: string; name: string; what: 'restoring' | 'before' }
  | { type: 'database-done'; source: string; name: string }
  /** once the database with that oid is swapped, it has content to compute again under its final name */
  | { type: 'dependents'; source: string; target: string; oid: string }
  /** `warnings`: content that a recovery could not compute again */
  | { type: 'dependents-done'; source: string; target: string; warnings?: string[] }
  /** the databases that a restore swaps, one after the other in this order */
  | { type: 'targets'; targets: string[] }
  /** a restored database has got its final name */
  | { type: 'swapped'; target: string }
  /** one database of several could not be restored and is unchanged */
  | { type: 'failed'; target: string }
  /** tables are about to go into a database that is in use, by their names there */
  | { type: 'copying'; tables: string[] }
  /** from here on the run works in a volume, see kept/volumes.ts */
  | { type: 'volume'; id: string; root: string; reach: Reach; mount?: Mount }
  /** the areas that a restore has made in the volume, see store/exchange/own-area.ts */
  | { type: 'volume-areas'; id: string; areas: AreaRecord }
  /**
   * from here to `volume-ended`, the volume may hold neither the old nor the new data; `area`: the area for the
   * replaced data; `list`, `size`: SHA-256 of the list of moves in it, and its size in bytes; `root`: of the volume
   */
  | { type: 'volume-swap'; id: string; area: Identity; list: string; size: number; root: Identity }
  /** the volume is entirely old or new from here on; the cleanup and the record of old data may be incomplete */
  | ({ type: 'volume-ended'; id: string } & Ended)
  /** the record is saved too; `now`: the data that is in place, if that is known */
  | { type: 'volume-done'; id: string; now?: 'old' | 'new' }
  /**
   * `startedAt`: the last start that the engine reports; `at`: ISO time of the stop request; `timeout`: seconds until
   * the engine kills the container; `until`: ISO time by which the stop is over in any case; `byOthers`: somebody else
   * also stopped the container meanwhile
   */
  | ({ type: 'stop'; container: ContainerRef; byOthers?: true } & StopTimes)
  /** at that ISO time somebody stopped the agent together with other services, perhaps the whole project */
  | { type: 'project-stop'; container: ContainerRef; at: string }
  /** the container runs again, or stays stopped because a user stopped it */
  | { type: 'started'; container: ContainerRef }
  | { type: 'hook'; container: ContainerRef; post: Hook }
  /** `pre` is about to run as this exec of the engine; nobody waits for it after `until` (ISO time) */
  | { type: 'pre'; container: ContainerRef; exec: string; until: string }
  /** the same for `post` */
  | { type: 'post'; container: ContainerRef; exec: string; until: string }
  | { type: 'hook-done'; container: ContainerRef };

/** The kind of a run: a rollback counts as a restore. */
export type RunVerb = (JournalEntry & { type: 'start' })['verb'];

/**
 * Appends an entry, which is on the disk when this returns. The agent's helpers append to the same file.
 *
 * @throws SPOOL_FULL
 */
export function appendJournal(file: string, entry: JournalEntry): void {
  const fd = openSync(file, 'a', 0o600);
  try {
    // The leading line break separates the entry from a line that a full disk or a crash cut off.
    appendFileSync(fd, `\n${JSON.stringify(entry)}\n`);
    fdatasyncSync(fd);
  } catch (error) {
    throw spoolError(error);
  } finally {
    closeSync(fd);
  }
}

/** Reads the entries of a journal. Skips a line that a crash cut off, because its step was not taken. */
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

/** Returns the keys of the objects that a run may have stored, from its journal. */
export async function journalObjects(file: string): Promise<string[]> {
  return (await readJournal(file)).flatMap((entry) => (entry.type === 'object' ? [entry.key] : []));
}

/** Returns the paths of the journals of runs that have not ended, oldest first. */
export async function openJournals(directory: string): Promise<string[]> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const names = await readdir(directory);
  return names
    .filter((name) => name.endsWith('.ndjson'))
    .sort()
    .map((name) => path.join(directory, name));
}

/**
 * Returns when a process started, in clock ticks since the host booted (proc(5), /proc/pid/stat, field 22). Together
 * with the process id this identifies a process. Returns undefined without such a process or without /proc.
 */
export function processStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the name of the program, which may contain spaces and parentheses.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

/** Entries about steps that are complete. Without them, recovery repeats or examines a step, which does no harm. */
const COMPLETED: readonly JournalEntry['type'][] = [
  ...([
    'database-done',
    'dependents-done',
    'swapped',
    'failed',
    'volume-ended',
    'volume-done',
    'started',
    'hook-done',
  ] as const),
  'ended',
  'reported',
];

/** The journal of a backup or restore that begins. */
export class Journal {
  readonly file: string;
  /** why an entry about a completed step could not be written; absent: everything is written */
  unwritten?: unknown;
  private readonly inMemory: JournalEntry[] = [];

  constructor(directory: string, start: JournalEntry & { type: 'start' }) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.file = path.join(directory, `${start.verb === 'backup' ? start.run.id : start.id}.ndjson`);
    const since = processStart(process.pid);
    this.record({ ...start, pid: process.pid, ...(since === undefined ? {} : { since }) });
  }

  /**
   * Writes an entry. If the entry announces a step and cannot be written, throws, and the step must not be taken. If
   * the step is complete, keeps the entry in memory: a full spool does not turn a success into a failure.
   */
  record(entry: JournalEntry): void {
    try {
      appendJournal(this.file, entry);
    } catch (error) {
      if (!COMPLETED.includes(entry.type)) throw error;
      this.inMemory.push(entry);
      this.unwritten ??= error;
    }
  }

  /** Returns all entries, also those that could not be written. */
  async entries(): Promise<JournalEntry[]> {
    return [...(await readJournal(this.file)), ...this.inMemory];
  }

  /** Removes the journal of a run that has ended and left nothing to undo. */
  async close(): Promise<void> {
    await rm(this.file, { force: true });
  }
}
