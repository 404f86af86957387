import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, hasCode, LifeboatError } from '../../../base/errors.ts';
import { readContents } from '../facts/contents.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';
import type { Tools } from '../server/tools.ts';
import { dropDatabase } from './drop-database.ts';
import { NAME_LIMIT, targetExists } from './load-plan.ts';

/**
 * A temporary database of a restore. `restoring`: it is being built, and incomplete. `before`: the database that had
 * the target's name.
 */
export interface WorkingDatabase {
  name: string;
  what: 'restoring' | 'before';
}

/**
 * Returns `<name>__<what>_<id>`. A name that is too long for 63 bytes is cut at a character, and a hash keeps it
 * unique.
 */
export function workingName(name: string, what: WorkingDatabase['what'], id: string): string {
  const plain = `__${what}_${id}`;
  if (Buffer.byteLength(name) + plain.length <= NAME_LIMIT) return name + plain;
  const suffix = `~${createHash('sha256').update(name).digest('hex').slice(0, 6)}${plain}`;
  let head = name;
  while (Buffer.byteLength(head) + Buffer.byteLength(suffix) > NAME_LIMIT) head = [...head].slice(0, -1).join('');
  return head + suffix;
}

/** The interval at which sessions on a database are ended while its rename waits for them, milliseconds. */
const KICK_MS = 100;

/** The number of attempts to rename. Each attempt waits five seconds for sessions to end (CountOtherDBBackends). */
const RENAME_ATTEMPTS = 3;

/** Reads the databases under some names. `oid` identifies a database whatever name it has; sizes are in bytes. */
export async function readDatabases(
  control: Session,
  names: readonly string[],
): Promise<Map<string, { oid: string; bytes: number }>> {
  const rows = await control.all<Record<'name' | 'oid' | 'bytes', string>>(
    `SELECT datname AS name, oid::text AS oid, pg_database_size(oid)::text AS bytes
       FROM pg_database WHERE datname = ANY($1)`,
    [names],
  );
  return new Map(rows.map(({ name, oid, bytes }) => [name, { oid, bytes: Number(bytes) }]));
}

/** A new name for one database. */
interface Rename {
  from: string;
  to: string;
}

/**
 * Renames databases in one transaction, so every session sees either the old names or the new. A rename holds a lock
 * that keeps new sessions out, and existing sessions are ended while it waits.
 *
 * @param inUse databases whose sessions are ended; empty if only this restore uses the databases
 * @returns duration, milliseconds: a name had no usable database for at most this long
 * @throws PG_TARGET_EXISTS if a name is taken; PG_TARGET_BUSY if sessions do not end; the errors of a session
 */
export async function renameDatabases(
  tools: Tools,
  control: Session,
  renames: readonly Rename[],
  { inUse, signal }: { inUse: string[]; signal: AbortSignal },
): Promise<number> {
  // Several statements in one query are one transaction.
  const sql = renames
    .map(({ from, to }) => `ALTER DATABASE ${quoteIdentifier(from)} RENAME TO ${quoteIdentifier(to)}`)
    .join('; ');
  const kicker = inUse.length === 0 ? undefined : await tools.session(control.database, signal);
  const begin = performance.now();
  try {
    for (let attempt = 1; ; attempt++) {
      try {
        const renamed = control.run(sql);
        await (kicker ? whileEnding(kicker, inUse, renamed) : renamed);
        return performance.now() - begin;
      } catch (error) {
        const state = sqlState(error);
        if (state === '42P04') throw targetExists(renames.map(({ to }) => to).join(' or '), tools.container, error);
        if (state !== '55006') throw error;
        if (attempt === RENAME_ATTEMPTS) throw stillBusy(tools, renames, error);
      }
    }
  } finally {
    await kicker?.close();
  }
}

function stillBusy({ container }: Tools, renames: readonly Rename[], cause: unknown): LifeboatError {
  const names = renames.map(({ from }) => from).join(' or ');
  return new LifeboatError(
    'PG_TARGET_BUSY',
    `database ${names} in ${container} is still in use, so it keeps its name`,
    {
      cause,
      hint: 'A session is connected that the role of Lifeboat may not end, or a prepared transaction is open: end it, then try again. Nothing was changed.',
    },
  );
}

/** Ends the sessions on some databases repeatedly until `work` is done. */
async function whileEnding(session: Session, databases: string[], work: Promise<void>): Promise<void> {
  let done = false;
  const finished = work.finally(() => {
    done = true;
  });
  finished.catch(() => undefined);
  while (!done) {
    // The role may lack the right to end a session. The rename then reports which database is in use.
    await session
      .all(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY($1) AND pid <> pg_backend_pid()',
        [databases],
      )
      .catch(() => undefined);
    await Promise.race([finished.catch(() => undefined), sleep(KICK_MS)]);
  }
  await finished;
}

/** The most time that statements of a dead client get to end, milliseconds. */
const END_LIMIT_MS = 20_000;

/**
 * Ends all sessions of a run except `control`, and waits until they are gone. The server does not notice at once that a
 * client was killed, and its CREATE DATABASE or rename could still take effect later.
 *
 * @throws PG_TARGET_BUSY if a session does not end; the errors of a session
 */
export async function endOwn(control: Session, application: string): Promise<void> {
  const end = performance.now() + END_LIMIT_MS;
  for (;;) {
    const { left } = await control.one<{ left: string }>(
      `SELECT count(pg_terminate_backend(pid))::text AS left
         FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()`,
      [application],
    );
    if (left === '0') return;
    if (performance.now() > end) throw new LifeboatError('PG_TARGET_BUSY', 'a statement of a dead run does not end');
    await sleep(KICK_MS);
  }
}

/**
 * Drops a working database and ends its sessions. A `before` database is dropped only if it is empty: it was empty when
 * the restore began, but somebody may have used it since.
 *
 * @returns `gone`; `kept` if it is not empty; `failed` (logged) if it could not be inspected or dropped
 */
export async function dropWorking(
  tools: Tools,
  { name, what }: WorkingDatabase,
  signal: AbortSignal,
): Promise<'gone' | 'kept' | 'failed'> {
  try {
    const control = await tools.control(name);
    await endOwn(control, tools.connection.application);
    const [existing] = await control.all('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
    if (!existing) return 'gone';
    if (what === 'before') {
      const session = await tools.session(name, signal);
      const contents = await readContents(session).finally(() => session.close());
      if (contents !== 'nothing') return 'kept';
    }
    await dropDatabase(tools, name, signal);
    return 'gone';
  } catch (error) {
    if (hasCode(error, 'PG_DATABASE_UNKNOWN')) return 'gone';
    tools.log.warn(`could not drop the working database ${name}; trying again later`, { ...errorInfo(error) });
    return 'failed';
  }
}
