import { hasCode, LifeboatError } from '../../../base/errors.ts';
import { quoteIdentifier, quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';
import { countBatches } from './count-batches.ts';
import type { TableFacts } from './facts.ts';
import { markUncounted } from './uncounted.ts';

/** A table that the server refused to count, and its error. */
export interface RefusedCount {
  table: TableFacts;
  error: unknown;
}

/** Limits how long a count takes. */
export interface CountPace {
  /** Returns milliseconds of a clock that only moves forward. */
  now(): number;
  /**
   * Returns how long the next statement may wait for a lock, milliseconds; undefined if no time is left to count.
   *
   * @param alone the statement counts a single table, as a second try
   */
  lockWaitMs(alone: boolean): number | undefined;
  /** Records that a statement waited for a lock without success. */
  waited(ms: number): void;
}

interface CountOptions {
  /** stops soon after the first refusal */
  stopAtRefusal?: boolean;
  pace?: CountPace;
  /** schemas of the database's own search path, if the session's database does not set it yet */
  searchPath?: readonly string[] | undefined;
}

/**
 * Sets `rows` of each table to its exact count, inside the session's transaction. The queries use `ONLY`, because the
 * rows of a child table are counted with the child. A table that the server refuses to count keeps its `rows` and gets
 * `exact` false. This may happen where a dump succeeds: planning a count runs functions of indexes, statistics and
 * planner support.
 *
 * Counting locks a table against TRUNCATE and similar statements. If the lock lasted until the end of the dump, a
 * session that waits for it could block the dump, and neither would ever end. So each statement ends with a return to a
 * savepoint, which releases its locks.
 *
 * Returns the tables that were refused; with `stopAtRefusal`, stops soon after the first. Throws only when the session
 * is lost.
 */
export async function countRows(
  session: Session,
  tables: readonly TableFacts[],
  { stopAtRefusal = false, pace, searchPath }: CountOptions = {},
): Promise<RefusedCount[]> {
  const refused: RefusedCount[] = [];
  const count = (some: readonly TableFacts[], alone: boolean, path?: string) =>
    attempt(session, some, { pace, alone, path });
  for (const batch of countBatches(tables)) {
    const error = await count(batch, false);
    if (error === undefined) continue;
    // Each of the other tables could take as long again.
    if (stopAtRefusal && isBeyondPath(error)) return [{ table: batch[0] as TableFacts, error }];
    for (const table of batch) {
      const alone = batch.length === 1 ? error : await count([table], true);
      if (alone === undefined) continue;
      // An index may use a function that relies on the search path of the database. Only such tables need that path.
      const own = isBeyondPath(alone) ? alone : await count([table], true, pathOf(searchPath));
      if (own === undefined) continue;
      markUncounted(table, isLate(own) ? 'late' : isLocked(own) ? 'locked' : 'refused');
      refused.push({ table, error: own });
    }
  }
  return refused;
}

/** lock_not_available */
function isLocked(error: unknown): boolean {
  return sqlState(error) === '55P03';
}

function isLate(error: unknown): boolean {
  return hasCode(error, 'PG_STALLED');
}

/** A lock, a cancelled statement or missing rights: another search path makes no difference. */
function isBeyondPath(error: unknown): boolean {
  return isLate(error) || /^(55P03|57014|42501)$/.test(sqlState(error) ?? '');
}

/**
 * Restores the search path that the role and the database set, in place of Lifeboat's own (Postgres docs, SET:
 * DEFAULT).
 */
const OWN_PATH = 'SET LOCAL search_path TO DEFAULT';

function pathOf(searchPath: readonly string[] | undefined): string {
  if (searchPath === undefined || searchPath.length === 0) return OWN_PATH;
  return `SET LOCAL search_path TO ${searchPath.map(quoteLiteral).join(', ')}`;
}

interface Attempt {
  pace: CountPace | undefined;
  alone: boolean;
  path: string | undefined;
}

/** Counts in one statement. Returns the error if the server refused it. Throws when the session is lost. */
async function attempt(session: Session, tables: readonly TableFacts[], how: Attempt): Promise<unknown> {
  const { pace, alone, path } = how;
  const wait = pace?.lockWaitMs(alone);
  if (pace && wait === undefined) return new LifeboatError('PG_STALLED', 'no time was left to count it');
  const began = pace?.now() ?? 0;
  await session.run('SAVEPOINT counting');
  try {
    if (wait !== undefined) await session.run(`SET LOCAL lock_timeout = ${wait}`);
    if (path !== undefined) await session.run(path);
    await countTogether(session, tables);
    return undefined;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    if (pace && isLocked(error)) pace.waited(pace.now() - began);
    return error;
  } finally {
    // The first error says more than the error of a lost session.
    await session.run('ROLLBACK TO SAVEPOINT counting').catch(() => undefined);
  }
}

/** Returns true if the server refused a query, and the session is still usable. */
export function isRefusal(error: unknown): boolean {
  return hasCode(error, 'PG_QUERY');
}

/** Sets `rows` of each table to its exact count, in one statement. Throws the error of the server. */
async function countTogether(session: Session, tables: readonly TableFacts[]): Promise<void> {
  const counts = await session.all<{ i: number; n: string }>(
    tables
      .map(({ schema, name }, i) => {
        const table = `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
        return `SELECT ${i} AS i, pg_catalog.count(*)::pg_catalog.text AS n FROM ONLY ${table}`;
      })
      .join(' UNION ALL '),
  );
  for (const { i, n } of counts) (tables[i] as TableFacts).rows = Number(n);
}
