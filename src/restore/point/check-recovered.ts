import { errorInfo } from '../../base/errors.ts';
import { plural } from '../../report/format.ts';
import type { Session } from '../../sources/postgres/server/session.ts';
import { serverWords, sqlState } from '../../sources/postgres/server/sql-state.ts';
import type { Tools } from '../../sources/postgres/server/tools.ts';

/** The result of a check of recovered data. */
export interface PointCheck {
  name: 'pg_verifybackup' | 'amcheck';
  ok: boolean;
  /** what was checked, what is damaged, or why nothing was checked */
  detail: string;
}

interface Relation {
  schema: string;
  name: string;
  oid: string;
  kind: 'index' | 'table';
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
 * (Postgres docs, appendix F.1). A database without the extension gets it in a transaction that is rolled back. Changes
 * nothing.
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
      await checkDatabase(session, name, { until, found, signal });
    } finally {
      await session.close();
    }
  }
  return resultOf(found);
}

async function checkDatabase(
  session: Session,
  database: string,
  { until, found, signal }: { until: number; found: Found; signal: AbortSignal },
): Promise<void> {
  await session.run('BEGIN');
  try {
    const schema = await provideExtension(session).catch((error: unknown) => {
      found.skipped.push(`${database}: amcheck cannot be used: ${errorInfo(error).message}`);
    });
    if (schema === undefined) return;
    for (const relation of await relationsOf(session)) {
      signal.throwIfAborted();
      if (performance.now() > until) {
        found.left++;
        continue;
      }
      const damage = await damageOf(session, schema, relation);
      found[relation.kind === 'index' ? 'indexes' : 'tables']++;
      if (damage !== undefined) found.damaged.push(`${database}: ${relation.schema}.${relation.name}: ${damage}`);
    }
  } finally {
    await session.run('ROLLBACK').catch(() => undefined);
  }
}

/** Returns the quoted schema of the extension, which is created if it is missing. @throws PG_QUERY */
async function provideExtension(session: Session): Promise<string> {
  // pg_amcheck --install-missing takes the same schema.
  await session.run('CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog');
  const { schema } = await session.one<{ schema: string }>(
    `SELECT quote_ident(n.nspname) AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
      WHERE e.extname = 'amcheck'`,
  );
  return schema;
}

/** Lists valid B-tree indexes, and the tables that `verify_heapam` can read. */
async function relationsOf(session: Session): Promise<Relation[]> {
  const tables =
    session.versionNumber >= 140000
      ? `UNION ALL SELECT n.nspname, c.relname, c.oid, 'table' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_am a ON a.oid = c.relam
          WHERE c.relkind IN ('r', 'm', 't') AND a.amname = 'heap' AND c.relpersistence = 'p'`
      : '';
  return session.all<Relation>(
    `SELECT schema, name, oid::text AS oid, kind FROM (
       SELECT n.nspname AS schema, c.relname AS name, c.oid AS oid, 'index' AS kind
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam
        WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisready AND i.indisvalid
       ${tables}) AS all_of_them ORDER BY kind, oid`,
  );
}

/** Returns the first damage that amcheck reports about a relation, in its words. */
async function damageOf(session: Session, schema: string, { oid, kind }: Relation): Promise<string | undefined> {
  await session.run('SAVEPOINT one');
  try {
    const sql =
      kind === 'index'
        ? `SELECT NULL AS damage FROM (SELECT ${schema}.bt_index_check($1::oid::regclass)) AS checked`
        : `SELECT msg AS damage FROM ${schema}.verify_heapam($1::oid::regclass, on_error_stop => true) LIMIT 1`;
    const [row] = await session.all<{ damage: string | null }>(sql, [oid]);
    return row?.damage ?? undefined;
  } catch (error) {
    // Anything else says nothing about the relation.
    if (sqlState(error) === undefined) throw error;
    return serverWords(error);
  } finally {
    await session.run('ROLLBACK TO one');
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
