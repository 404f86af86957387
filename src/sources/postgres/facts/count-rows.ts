import { hasCode, LifeboatError } from '../../../base/errors.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';
import { countBatches } from './count-batches.ts';
import type { TableFacts } from './facts.ts';
import { markUncounted } from './uncounted.ts';

/** A table that the server would not count, and what it said. */
export interface RefusedCount {
  table: TableFacts;
  error: unknown;
}

/** How long a count may take. */
export interface CountPace {
  /** milliseconds that only go forward */
  now(): number;
  /** how long the next statement may wait for a lock, milliseconds; undefined: nothing more is counted. `alone`: of a single table, again */
  lockWaitMs(alone: boolean): number | undefined;
  /** a statement waited for a lock for that many milliseconds, in vain */
  waited(ms: number): void;
}

/**
 * Sets `rows` of each table to its exact count, inside the session's transaction. `ONLY`: rows of children are counted with
 * the child. A table that the server refuses to count keeps its `rows` and gets `exact` false: planning a count runs what
 * indexes, statistics and planner support functions bring along, and that may fail where a dump does not.
 *
 * Counting locks a table against TRUNCATE and the like. Kept to the end of a dump, such a lock could make somebody who waits
 * for it block the dump, and so both for ever: each statement ends with a return to a savepoint, which releases its locks.
 *
 * Resolves to the tables that were refused; with `stopAtRefusal`, soon after the first. Rejects only when the session is lost.
 */
export async function countRows(
  session: Session,
  tables: readonly TableFacts[],
  { stopAtRefusal = false, pace }: { stopAtRefusal?: boolean; pace?: CountPace } = {},
): Promise<RefusedCount[]> {
  const refused: RefusedCount[] = [];
  const count = (some: readonly TableFacts[], alone: boolean, path?: string) =>
    attempt(session, some, { pace, alone, path });
  for (const batch of countBatches(tables)) {
    const error = await count(batch, false);
    if (error === undefined) continue;
    // Each of them could make us wait as long again.
    if (stopAtRefusal && isBeyondPath(error)) return [{ table: batch[0] as TableFacts, error }];
    for (const table of batch) {
      const alone = batch.length === 1 ? error : await count([table], true);
      if (alone === undefined) continue;
      // An index may rest on a function that finds its names by the path of the database: only where ours does not do.
      const own = isBeyondPath(alone) ? alone : await count([table], true, OWN_PATH);
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

/** The path that the role and the database set, without the one of our sessions (Postgres docs, SET: DEFAULT). */
const OWN_PATH = 'SET LOCAL search_path TO DEFAULT';

interface Attempt {
  pace: CountPace | undefined;
  alone: boolean;
  path: string | undefined;
}

/** Counts in one statement; resolves to why the server refused it, if it did. Rejects when the session is lost. */
async function attempt(session: Session, tables: readonly TableFacts[], how: Attempt): Promise<unknown> {
  const { pace, alone, path } = how;
  const wait = pace?.lockWaitMs(alone);
  if (pace && wait === undefined) return new LifeboatError('PG_STALLED', 'there was no time left to count it');
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
    // The first error tells more than that of a session which is lost.
    await session.run('ROLLBACK TO SAVEPOINT counting').catch(() => undefined);
  }
}

/** The server answered, and the session goes on. */
export function isRefusal(error: unknown): boolean {
  return hasCode(error, 'PG_QUERY');
}

/** Sets `rows` of each table to its exact count, by one statement. Throws what the server says. */
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
