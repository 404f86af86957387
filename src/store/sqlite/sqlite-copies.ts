import { mkdir, open, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { hasErrno } from '../../base/errors.ts';
import { type FileStat, fileStat } from '../filesystem/file-stat.ts';
import { isAt, READ_FLAGS } from '../filesystem/read-file.ts';
import { type CopyOutcome, copyDatabase, hasRoom } from './sqlite-copy.ts';
import {
  isInParts,
  isMountedAlone,
  isSqlite,
  isWithoutItsLog,
  lastWritten,
  obstacleAt,
  SQLITE_HEADER,
  stateOf,
  usesWal,
} from './sqlite-file.ts';
import { type SqliteAnswer, SqliteProcess } from './sqlite-process.ts';

/** The longest wait of writers to a database without a log, milliseconds. Applications wait longer for a lock. */
const WRITERS_WAIT_MS = 3000;
const HOLD_MS = 15_000;
/** Time limit of a check, with an addition for each byte, milliseconds. */
const CHECK_MS = 60_000;
const CHECK_MS_PER_BYTE = 1 / 10_000;
const CHECK_MAX_MS = 30 * 60_000;
/** https://www.sqlite.org/rescode.html */
const ERROR = 1;
const IOERR = 10;
const CORRUPT = 11;
const CANTOPEN = 14;
const NOT_A_DATABASE = 26;
/** Reports of `integrity_check` about rows that violate a constraint of their table. The file itself is sound. */
const ABOUT_ROWS = /^(CHECK constraint failed|(NULL|NUMERIC|TEXT|non-[A-Z]+) value (missing )?in)/;

/** The result of copying a database. `why` is for display. */
export type DatabaseCopy =
  /**
   * `file` is the whole database at one moment, and valid until the next copy. `state` and `stat` describe the live one
   * before the copy.
   */
  | {
      outcome: 'copied';
      file: Buffer;
      size: number;
      stat: FileStat;
      state: string;
      usesWal: boolean;
      damage: string[];
      notes: string[];
    }
  /** no consistent copy was possible; `damage`: the database itself is the cause; `mount`: its log is not mounted */
  | { outcome: 'torn'; why: string; damage: boolean; cause?: 'mount' }
  /** the spool has no room for a copy; `quiet`: the database has no log or journal */
  | { outcome: 'no-room'; quiet: boolean }
  /** the file only looks like a database */
  | { outcome: 'plain' };

/** The place of a live database. `isFileMount`: a container mounts the file without its directory. */
interface LiveDatabase {
  absolute: Buffer;
  isFileMount: boolean;
}

/** The state of a live database, before its copy is checked. */
type Live = Pick<Extract<DatabaseCopy, { outcome: 'copied' }>, 'stat' | 'state' | 'usesWal' | 'notes'>;

/**
 * Makes consistent copies of SQLite databases that are in use, one at a time, in the spool. The live files are only
 * read: first without a lock, and if the database changes too quickly, while SQLite holds a read transaction on it.
 */
export class SqliteCopies {
  private readonly directory: string;
  private readonly process = new SqliteProcess();
  private readonly heard: (bytes: number) => void;
  private readonly signal: AbortSignal | undefined;
  /** the reason why the last hold failed */
  private refusal = '';

  /** @param spool a directory with room for one copy, as its real path */
  constructor(spool: string, heard: (bytes: number) => void, signal?: AbortSignal) {
    this.directory = path.join(spool, 'sqlite');
    this.heard = heard;
    this.signal = signal;
  }

  /**
   * Copies a database. Returns undefined if the file has vanished, was replaced, or cannot be read; the next read
   * reports that.
   *
   * @param isFileMount a container mounts the file without its directory
   */
  async copy(absolute: Buffer, isFileMount = false): Promise<DatabaseCopy | undefined> {
    try {
      return await this.tryAll({ absolute, isFileMount });
    } catch (error) {
      this.signal?.throwIfAborted();
      if (hasErrno(error, 'ENOSPC', 'EDQUOT')) return { outcome: 'no-room', quiet: !isInParts(absolute) };
      if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EACCES', 'EPERM', 'EIO')) return undefined;
      throw error;
    }
  }

  /** Ends the process and removes the last copy. */
  async close(): Promise<void> {
    this.process.close();
    await rm(this.directory, { recursive: true, force: true });
  }

  private async tryAll(database: LiveDatabase): Promise<DatabaseCopy | undefined> {
    const { absolute } = database;
    const first = await this.attempt(database, false);
    if (first !== 'changed') return first;
    // A log that was restarted may be restarted again before its first byte is read. After that, SQLite keeps it.
    for (let attempt = 0; attempt < 2; attempt++) {
      const held = await this.ask('hold', absolute);
      if (held.kind === 'failed') break;
      try {
        const locked = await this.attempt(database, true);
        if (locked !== 'changed') return locked;
      } finally {
        await this.ask('release', absolute);
      }
    }
    const last = await this.attempt(database, false);
    return last === 'changed' ? { outcome: 'torn', why: 'it changed each time it was copied', damage: false } : last;
  }

  /**
   * Waits until no transaction is in progress. Returns true if none can commit until the release, or if the file is not
   * a sound database.
   */
  private async hold(absolute: Buffer): Promise<boolean> {
    const answer = await this.ask('hold', absolute);
    if (answer.kind !== 'failed') return true;
    const cannotOpen = answer.code === CANTOPEN || answer.code === IOERR;
    this.refusal = (cannotOpen && obstacleAt(absolute)) || `a transaction may be under way: ${answer.message}`;
    return answer.code === ERROR || answer.code === CORRUPT || answer.code === NOT_A_DATABASE;
  }

  private ask(kind: 'hold' | 'release', absolute: Buffer): Promise<SqliteAnswer> {
    const request = kind === 'hold' ? { kind, path: absolute.toString('latin1') } : { kind };
    return this.process.ask(request, this.patience(HOLD_MS));
  }

  private async attempt(
    { absolute, isFileMount }: LiveDatabase,
    locked: boolean,
  ): Promise<DatabaseCopy | 'changed' | undefined> {
    const main = await open(absolute, READ_FLAGS);
    let held = false;
    const hold = () => {
      held = true;
      return this.hold(absolute);
    };
    try {
      const live = fileStat(await main.stat({ bigint: true }), Date.now());
      if (live.type !== 'file' || !isAt(main.fd, absolute)) return undefined;
      const header = Buffer.alloc(SQLITE_HEADER);
      await main.read(header, 0, header.length, 0);
      if (!isSqlite(header)) return { outcome: 'plain' };
      const isAlone = isMountedAlone(main.fd, absolute, isFileMount);
      if (isWithoutItsLog(header, absolute, isAlone)) return WITHOUT_ITS_LOG;
      const state = stateOf(live, absolute);
      const mtime = lastWritten(live, absolute);
      await rm(this.directory, { recursive: true, force: true });
      await mkdir(this.directory, { mode: 0o700 });
      if (!(await hasRoom(this.directory, main, absolute))) return { outcome: 'no-room', quiet: !isInParts(absolute) };
      const to = path.join(this.directory, 'db');
      const deadline = locked && !usesWal(header) ? performance.now() + WRITERS_WAIT_MS : undefined;
      const { heard, signal } = this;
      const copied = await copyDatabase(main, absolute, to, { locked, hold, deadline, heard, signal });
      if (held) await this.ask('release', absolute);
      held = false;
      if (copied === 'whole')
        return await this.check(to, {
          ...{ stat: { ...live, mtime }, state, usesWal: usesWal(header) },
          notes: isAlone && !isInParts(absolute) ? [WITHOUT_ITS_JOURNAL] : [],
        });
      if (copied === 'changed') return copied;
      return { outcome: 'torn', why: copied === 'busy' ? this.refusal : WHY[copied], damage: false };
    } finally {
      await main.close();
      // The copy failed, so the process is ended to release its lock.
      if (held) this.process.close();
    }
  }

  private async check(to: string, live: Live): Promise<DatabaseCopy> {
    const bytes = live.stat.size + (await sizeOf(`${to}-wal`)) + (await sizeOf(`${to}-journal`));
    const limit = Math.min(CHECK_MAX_MS, CHECK_MS + bytes * CHECK_MS_PER_BYTE);
    const recovered = await this.process.ask({ kind: 'recover', path: to }, this.patience(limit));
    this.signal?.throwIfAborted();
    if (recovered.kind === 'failed') {
      const { code, message } = recovered;
      if (code === NOT_A_DATABASE) return { outcome: 'plain' };
      return { outcome: 'torn', why: message, damage: code === CORRUPT || code === undefined };
    }
    const { size } = await stat(to);
    const checked = await this.process.ask({ kind: 'check', path: to }, this.patience(limit));
    this.signal?.throwIfAborted();
    const { damage, notes } = findings(checked);
    return { outcome: 'copied', file: Buffer.from(to), size, ...live, damage, notes: [...live.notes, ...notes] };
  }

  private patience(limitMs: number) {
    return { limitMs, alive: () => this.heard(0), signal: this.signal };
  }
}

export const WITHOUT_ITS_LOG = {
  outcome: 'torn',
  why: 'only this file is mounted, and not its log: the latest writes of the application may be missing',
  damage: false,
  cause: 'mount',
} as const satisfies DatabaseCopy;
const WITHOUT_ITS_JOURNAL = 'only this file is mounted: the journal that a crash leaves would be out of reach';

const WHY: Record<Exclude<CopyOutcome, 'whole' | 'changed' | 'busy'>, string> = {
  late: 'it is written to all the time, and its writers would have to wait while it is read',
  'super-journal': 'a transaction over several databases was interrupted; start the application that uses it',
};

async function sizeOf(file: string): Promise<number> {
  const found = await stat(file).catch(() => undefined);
  return found?.size ?? 0;
}

/**
 * Sorts the results of a check into damage and notes. A check that could not run, for lack of a function or time, is
 * only noted.
 */
function findings(answer: SqliteAnswer): { damage: string[]; notes: string[] } {
  if (answer.kind === 'checked') {
    const { problems } = answer;
    return {
      damage: problems.filter((text) => !ABOUT_ROWS.test(text)),
      notes: problems.filter((text) => ABOUT_ROWS.test(text)),
    };
  }
  const message = answer.kind === 'failed' ? answer.message : 'no answer';
  if (answer.kind === 'failed' && answer.code === CORRUPT) return { damage: [message], notes: [] };
  return { damage: [], notes: [`could not be checked: ${message}`] };
}
