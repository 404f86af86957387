import { plural } from '../../report/format.ts';
import { checkRelations } from '../../sources/postgres/facts/amcheck.ts';
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
 * @param limitMs how long the check may take, milliseconds. What is left then is not checked, and the result says so
 * @throws PG_UNREACHABLE, PG_AUTH; the signal's reason
 */
export async function checkWithAmcheck(
  tools: Pick<Tools, 'control' | 'session'>,
  { limitMs, signal }: { limitMs: number; signal: AbortSignal },
): Promise<PointCheck> {
  const control = await tools.control();
  const databases = await control.all<{ name: string }>(
    `SELECT datname AS name FROM pg_database WHERE datallowconn AND datname <> 'template0' ORDER BY datname`,
  );
  const until = performance.now() + limitMs;
  const found: Found = { indexes: 0, tables: 0, left: 0, damaged: [], skipped: [] };
  for (const { name } of databases) {
    signal.throwIfAborted();
    const session = await tools.session(name, signal);
    try {
      const { indexes, tables, left, damaged, unavailable } = await checkRelations(session, {
        ...{ tables: true, until, signal },
      });
      found.indexes += indexes;
      found.tables += tables;
      found.left += left;
      found.damaged.push(...damaged.map((one) => `${name}: ${one}`));
      if (unavailable !== undefined) found.skipped.push(`${name}: amcheck cannot be used: ${unavailable}`);
    } finally {
      await session.close();
    }
  }
  return resultOf(found);
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
