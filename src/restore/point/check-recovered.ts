import { errorInfo } from '../../base/errors.ts';
import { plural } from '../../report/format.ts';
import { checkRelations } from '../../sources/postgres/facts/amcheck.ts';
import { serverWords, sqlState } from '../../sources/postgres/server/sql-state.ts';
import type { Tools } from '../../sources/postgres/server/tools.ts';

/** The result of a check of recovered data. */
export interface PointCheck {
  name: 'pg_verifybackup' | 'amcheck';
  ok: boolean;
  /** nothing was checked; absent otherwise */
  skipped?: true;
  /** what was checked, what is damaged, or why nothing was checked */
  detail: string;
}

/** The findings of amcheck so far. */
interface Found {
  indexes: number;
  tables: number;
  /** relations that were not checked because time was up */
  left: number;
  damaged: string[];
  /** databases that could not be checked, with the reason */
  skipped: string[];
}

/** The most damaged relations that a result names. */
const NAMED = 5;

/**
 * Checks the B-tree indexes of all databases of a server with amcheck, and its tables on Postgres 14 and newer
 * (see `checkRelations`). Changes nothing.
 *
 * @param limitMs how long the check may take, milliseconds. The rest is not checked then, and the result says so
 * @throws PG_UNREACHABLE, PG_AUTH; the signal's reason
 */
export async function checkWithAmcheck(
  tools: Pick<Tools, 'control' | 'session'>,
  { limitMs, signal }: { limitMs: number; signal: AbortSignal },
): Promise<PointCheck> {
  const control = await tools.control();
  const databases = await control.all<{ name: string; dropped: boolean }>(
    `SELECT datname AS name, datconnlimit = -2 AS dropped FROM pg_database
      WHERE datallowconn AND datname <> 'template0' ORDER BY datname`,
  );
  const until = performance.now() + limitMs;
  const found: Found = { indexes: 0, tables: 0, left: 0, damaged: [], skipped: [] };
  for (const { name, dropped } of databases) {
    signal.throwIfAborted();
    // Nobody can connect to it, and all that can be done with it is to drop it again (pg_database.h).
    if (dropped) found.skipped.push(`${name}: not checked, because DROP DATABASE was interrupted`);
    else await addDatabase(tools, name, { found, until, signal });
  }
  return resultOf(found);
}

/** Checks one database. What the server says of one says nothing about the others. */
async function addDatabase(
  tools: Pick<Tools, 'session'>,
  name: string,
  { found, until, signal }: { found: Found; until: number; signal: AbortSignal },
): Promise<void> {
  try {
    const session = await tools.session(name, signal);
    const checked = await checkRelations(session, { tables: true, until, signal }).finally(() => session.close());
    found.indexes += checked.indexes;
    found.tables += checked.tables;
    found.left += checked.left;
    found.damaged.push(...checked.damaged.map((one) => `${name}: ${one}`));
    if (checked.unavailable !== undefined)
      found.skipped.push(`${name}: amcheck cannot be used: ${checked.unavailable}`);
  } catch (error) {
    signal.throwIfAborted();
    const state = sqlState(error);
    if (state === undefined) throw error;
    const words = serverWords(error) ?? errorInfo(error).message;
    // Internal errors, and errors of the system, such as a file that is not there (Postgres docs, appendix A).
    if (/^(XX|58)/.test(state)) found.damaged.push(`${name}: ${words}`);
    else found.skipped.push(`${name}: cannot be checked: ${words}`);
  }
}

function resultOf({ indexes, tables, left, damaged, skipped }: Found): PointCheck {
  const name = 'amcheck';
  if (damaged.length > 0) {
    const more = damaged.length > NAMED ? `, and ${damaged.length - NAMED} more` : '';
    return { name, ok: false, detail: `${damaged.slice(0, NAMED).join('; ')}${more}` };
  }
  const parts = [
    `${plural(indexes, 'index', 'indexes')} and ${plural(tables, 'table')} are sound`,
    ...(left > 0 ? [`${left} were not checked, because the time for it was up`] : []),
    ...skipped,
  ];
  return { name, ok: true, detail: parts.join('; ') };
}
