/**
 * The program that opens SQLite databases, in a process of its own: a database is input from strangers, SQLite's calls do not
 * return before they are done, and closing a file that is read elsewhere in the same process would drop SQLite's locks on it.
 * Requests come in as JSON lines, answers go out the same way, one for each.
 */
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import type { SqliteAnswer, SqliteRequest } from './sqlite-process.ts';

/** Bytes of memory that SQLite may take. */
const MEMORY = 64 * 1024 * 1024;
/** How long a lock is waited for, milliseconds: an application holds one only while it commits. */
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
    return request.kind === 'settle' ? settle(request.path) : check(request.path);
  } catch (error) {
    const { message, errcode } = error as Error & { errcode?: number };
    return { kind: 'failed', code: (errcode ?? 0) & 0xff, message: message.slice(0, MAX_TEXT) };
  }
}

function open(location: string, readOnly: boolean): DatabaseSync {
  const options = { readOnly, allowExtension: false, defensive: true, timeout: LOCK_MS };
  const database = new DatabaseSync(location, options);
  // What a schema from strangers may call, and how much it may take: https://www.sqlite.org/security.html
  database.exec(`PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; PRAGMA hard_heap_limit = ${MEMORY}`);
  return database;
}

/** Begins to read: from then on no log is reset, and without a log nothing is committed. Writes nothing, not even locks' files. */
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

/** Makes a copy whole by itself, as SQLite does after a crash: the log goes into it, or the journal takes back what was cut off. */
function settle(path: string): SqliteAnswer {
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

/** A path with one character for each byte, as it stands in a URI. */
function encoded(path: string): string {
  return [...Buffer.from(path, 'latin1')].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
}
