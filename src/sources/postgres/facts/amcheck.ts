import { errorInfo } from '../../../base/errors.ts';
import type { Session } from '../server/session.ts';
import { serverWords, sqlState } from '../server/sql-state.ts';

/** The relations of a database that amcheck has checked. */
interface CheckedRelations {
  indexes: number;
  tables: number;
  /** relations that were not checked, or not to the end, because time was up */
  left: number;
  /** `public.orders: …`, in the words of the server */
  damaged: string[];
  /** why nothing could be checked, in the words of the server; absent if amcheck could be used */
  unavailable?: string;
}

interface CheckOptions {
  /** tables too, on Postgres 14 and newer */
  tables: boolean;
  /** when to stop, by `performance.now()` */
  until: number;
  signal: AbortSignal;
}

interface Relation {
  schema: string;
  name: string;
  oid: string;
  kind: 'index' | 'table';
}

/** query_canceled */
const CANCELED = '57014';
/** The longest statement_timeout of Postgres, milliseconds. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/**
 * Checks the structure of the B-tree indexes of the session's database with amcheck, and of its tables if asked
 * (Postgres docs, appendix F.1). A database without the extension gets it in a transaction that is rolled back. Changes
 * nothing.
 *
 * @throws PG_UNREACHABLE; the signal's reason
 */
export async function checkRelations(session: Session, options: CheckOptions): Promise<CheckedRelations> {
  const { until, signal } = options;
  const found: CheckedRelations = { indexes: 0, tables: 0, left: 0, damaged: [] };
  await session.run('BEGIN');
  try {
    const schema = await provideExtension(session).catch((error: unknown) => {
      if (sqlState(error) === undefined) throw error;
      found.unavailable = errorInfo(error).message;
    });
    if (schema === undefined) return found;
    for (const relation of await relationsOf(session, options.tables)) {
      signal.throwIfAborted();
      const damage = await damageOf(session, schema, relation, until);
      if (damage === 'late') found.left++;
      else found[relation.kind === 'index' ? 'indexes' : 'tables']++;
      if (damage !== 'late' && damage !== undefined)
        found.damaged.push(`${relation.schema}.${relation.name}: ${damage.words}`);
    }
    return found;
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
async function relationsOf(session: Session, withTables: boolean): Promise<Relation[]> {
  const tables =
    withTables && session.versionNumber >= 140000
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

/**
 * Returns the first damage that amcheck reports about a relation, or `late` if that took too long: a check of one huge
 * index may take hours, so the server ends it.
 */
async function damageOf(
  session: Session,
  schema: string,
  { oid, kind }: Relation,
  until: number,
): Promise<{ words: string } | 'late' | undefined> {
  const leftMs = Math.min(MAX_TIMEOUT_MS, Math.floor(until - performance.now()));
  if (leftMs < 1) return 'late';
  await session.run(`SAVEPOINT one; SET LOCAL statement_timeout = ${leftMs}`);
  try {
    const sql =
      kind === 'index'
        ? `SELECT NULL AS damage FROM (SELECT ${schema}.bt_index_check($1::oid::regclass)) AS checked`
        : `SELECT msg AS damage FROM ${schema}.verify_heapam($1::oid::regclass, on_error_stop => true) LIMIT 1`;
    const [row] = await session.all<{ damage: string | null }>(sql, [oid]);
    return row?.damage == null ? undefined : { words: row.damage };
  } catch (error) {
    // Anything else says nothing about the relation.
    if (sqlState(error) === undefined) throw error;
    return sqlState(error) === CANCELED ? 'late' : { words: serverWords(error) ?? errorInfo(error).message };
  } finally {
    await session.run('ROLLBACK TO one');
  }
}
