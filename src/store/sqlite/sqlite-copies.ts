import { mkdir, open, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { hasErrno } from '../../base/errors.ts';
import { type FileStat, fileStat } from '../filesystem/file-stat.ts';
import { isMountPoint } from '../filesystem/mount-point.ts';
import { isAt, READ_FLAGS } from '../filesystem/read-file.ts';
import { type CopyOutcome, copyDatabase, hasRoom } from './sqlite-copy.ts';
import {
  isInParts,
  isSqlite,
  isWithoutItsLog,
  lastWritten,
  obstacleAt,
  SQLITE_HEADER,
  stateOf,
  usesWal,
} from './sqlite-file.ts';
import { type SqliteAnswer, SqliteProcess } from './sqlite-process.ts';

/** How long writers of a database without a log may be kept waiting, milliseconds: less than applications wait for a lock. */
const WRITERS_WAIT_MS = 3000;
const HOLD_MS = 15_000;
/** A check may take that long, and so much longer for each byte, milliseconds. */
const CHECK_MS = 60_000;
const CHECK_MS_PER_BYTE = 1 / 10_000;
const CHECK_MAX_MS = 30 * 60_000;
/** https://www.sqlite.org/rescode.html */
const ERROR = 1;
const IOERR = 10;
const CORRUPT = 11;
const CANTOPEN = 14;
const NOT_A_DATABASE = 26;
/** What `integrity_check` says of rows that break a rule of their table: the file is sound. */
const ABOUT_ROWS = /^(CHECK constraint failed|(NULL|NUMERIC|TEXT|non-[A-Z]+) value (missing )?in)/;

/** What came of copying a database. `why` is for people. */
export type DatabaseCopy =
  /** `file` is the whole database at one moment, until the next copy. `state` and `stat` are of the live one, before. */
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
  /** no consistent copy could be made: `damage` where the database itself is the cause, `mount` where its log is not mounted */
  | { outcome: 'torn'; why: string; damage: boolean; cause?: 'mount' }
  /** there was no room for a copy; `quiet` when the main file is all there is to it */
  | { outcome: 'no-room'; quiet: boolean }
  /** looks like a database and is none */
  | { outcome: 'plain' };

/** What is known of a live database before its copy is checked. */
type Live = Pick<Extract<DatabaseCopy, { outcome: 'copied' }>, 'stat' | 'state' | 'usesWal' | 'notes'>;

/**
 * Makes consistent copies of SQLite databases that are in use, each in the spool, one at a time. The live files are only read:
 * first without any lock, then, where the database changes too quickly, while SQLite holds a read transaction on it.
 */
export class SqliteCopies {
  private readonly directory: string;
  private readonly process = new SqliteProcess();
  private readonly heard: (bytes: number) => void;
  private readonly signal: AbortSignal | undefined;
  /** why the last hold failed */
  private refusal = '';

  /** @param spool a directory for one copy at a time, with its real path */
  constructor(spool: string, heard: (bytes: number) => void, signal?: AbortSignal) {
    this.directory = path.join(spool, 'sqlite');
    this.heard = heard;
    this.signal = signal;
  }

  /** Undefined when the file is gone, was replaced, or cannot be read: whoever reads it next meets that. */
  async copy(absolute: Buffer): Promise<DatabaseCopy | undefined> {
    try {
      return await this.tryAll(absolute);
    } catch (error) {
      this.signal?.throwIfAborted();
      if (hasErrno(error, 'ENOSPC', 'EDQUOT')) return { outcome: 'no-room', quiet: !isInParts(absolute) };
      if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EACCES', 'EPERM', 'EIO')) return undefined;
      throw error;
    }
  }

  /** Ends the process, and removes the last copy. */
  async close(): Promise<void> {
    this.process.close();
    await rm(this.directory, { recursive: true, force: true });
  }

  private async tryAll(absolute: Buffer): Promise<DatabaseCopy | undefined> {
    const first = await this.attempt(absolute, false);
    if (first !== 'changed') return first;
    // A log that began again since may do so once more before the first byte is read; then SQLite keeps it.
    for (let attempt = 0; attempt < 2; attempt++) {
      const held = await this.ask('hold', absolute);
      if (held.kind === 'failed') break;
      try {
        const locked = await this.attempt(absolute, true);
        if (locked !== 'changed') return locked;
      } finally {
        await this.ask('release', absolute);
      }
    }
    const last = await this.attempt(absolute, false);
    return last === 'changed' ? { outcome: 'torn', why: 'it changed each time it was copied', damage: false } : last;
  }

  /** True when no transaction is under way, and none is committed until the release. What is no sound database has none. */
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

  private async attempt(absolute: Buffer, locked: boolean): Promise<DatabaseCopy | 'changed' | undefined> {
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
      if (isWithoutItsLog(main.fd, header, absolute)) return WITHOUT_ITS_LOG;
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
        return await this.settle(to, {
          ...{ stat: { ...live, mtime }, state, usesWal: usesWal(header) },
          notes: !isInParts(absolute) && isMountPoint(main.fd, absolute) ? [WITHOUT_ITS_JOURNAL] : [],
        });
      if (copied === 'changed') return copied;
      return { outcome: 'torn', why: copied === 'busy' ? this.refusal : WHY[copied], damage: false };
    } finally {
      await main.close();
      // Ends the process where the copy failed: it holds nothing then.
      if (held) this.process.close();
    }
  }

  private async settle(to: string, live: Live): Promise<DatabaseCopy> {
    const bytes = live.stat.size + (await sizeOf(`${to}-wal`)) + (await sizeOf(`${to}-journal`));
    const limit = Math.min(CHECK_MAX_MS, CHECK_MS + bytes * CHECK_MS_PER_BYTE);
    const settled = await this.process.ask({ kind: 'settle', path: to }, this.patience(limit));
    this.signal?.throwIfAborted();
    if (settled.kind === 'failed') {
      const { code, message } = settled;
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

const WITHOUT_ITS_LOG: DatabaseCopy = {
  outcome: 'torn',
  why: 'only this file is mounted, and not its log: what the application wrote last may be missing',
  damage: false,
  cause: 'mount',
};
const WITHOUT_ITS_JOURNAL = 'only this file is mounted: the journal that a crash leaves would be out of reach';

const WHY: Record<Exclude<CopyOutcome, 'whole' | 'changed' | 'busy'>, string> = {
  late: 'it is written to all the time, and reading it whole would keep its writers waiting',
  'super-journal': 'a transaction over several databases was cut off; start what uses it',
};

async function sizeOf(file: string): Promise<number> {
  const found = await stat(file).catch(() => undefined);
  return found?.size ?? 0;
}

/** What a check comes to. One that could not be made, for lack of a function or time, says nothing against the database. */
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
