/**
 * The program that opens SQLite databases, in a process of its own. A database is untrusted input, SQLite's calls
 * cannot be interrupted, and closing a file that another part of the same process has open would drop SQLite's locks on
 * it. It reads requests as JSON lines, and writes one JSON line as the answer to each.
 */
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import type { SqliteAnswer, SqliteRequest } from './sqlite-process.ts';

/** Upper bound of SQLite's memory, bytes. */
const MEMORY = 64 * 1024 * 1024;
/** The longest wait for a lock, milliseconds. Applications hold one only while they commit. */
const LOCK_MS = 5000;
const MAX_PROBLEMS = 10;
const MAX_TEXT = 300;

let held: DatabaseSync | undefined;

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(answer(JSON.parse(line) as SqliteRequest))}\n`);
}

function answer(request: SqliteRequest): SqliteAnswer {
  try {
    if (request.kind === 'hold') return hold(request.path);
    if (request.kind === 'release') return release();
    return request.kind === 'recover' ? recover(request.path) : check(request.path);
  } catch (error) {
    const { message, errcode } = error as Error & { errcode?: number };
    return { kind: 'failed', code: (errcode ?? 0) & 0xff, message: message.slice(0, MAX_TEXT) };
  }
}

function open(location: string, readOnly: boolean): DatabaseSync {
  const options = { readOnly, allowExtension: false, defensive: true, timeout: LOCK_MS };
  const database = new DatabaseSync(location, options);
  // Limits the functions and memory that an untrusted schema can use: https://www.sqlite.org/security.html
  database.exec(`PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; PRAGMA hard_heap_limit = ${MEMORY}`);
  return database;
}

/**
 * Starts a read transaction: from then on no log is restarted, and without a log nothing is committed. Writes nothing,
 * not even lock files.
 */
function hold(path: string): SqliteAnswer {
  release();
  const database = open(`file:${encoded(path)}?mode=ro&readonly_shm=1`, true);
  try {
    database.exec('BEGIN');
    database.prepare('PRAGMA schema_version').get();
  } catch (error) {
    database.close();
    throw error;
  }
  held = database;
  return { kind: 'done' };
}

function release(): SqliteAnswer {
  held?.close();
  held = undefined;
  return { kind: 'done' };
}

/**
 * Completes a copy as SQLite does after a crash: applies the log to it, or undoes an interrupted transaction from the
 * journal.
 */
function recover(path: string): SqliteAnswer {
  const database = open(`file:${encoded(path)}?mode=rw`, false);
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = OFF');
    database.prepare('PRAGMA schema_version').get();
    database.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get();
    return { kind: 'done' };
  } finally {
    database.close();
  }
}

/** https://www.sqlite.org/pragma.html#pragma_integrity_check */
function check(path: string): SqliteAnswer {
  const database = open(`file:${encoded(path)}?mode=ro&immutable=1`, true);
  try {
    database.exec('PRAGMA cell_size_check = ON');
    const rows = database.prepare(`PRAGMA integrity_check(${MAX_PROBLEMS})`).all() as { integrity_check: string }[];
    const texts = rows.map(({ integrity_check }) => String(integrity_check).slice(0, MAX_TEXT));
    return { kind: 'checked', problems: texts.length === 1 && texts[0] === 'ok' ? [] : texts };
  } finally {
    database.close();
  }
}

/** Encodes a path, with one character per byte, for a URI. */
function encoded(path: string): string {
  return [...Buffer.from(path, 'latin1')].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
}
