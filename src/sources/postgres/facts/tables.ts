import type { Session } from '../server/session.ts';
import type { TableFacts } from './facts.ts';
import { markUncounted } from './uncounted.ts';

/** Larger tables are not counted; the planner's statistics provide an estimate. 1 GiB. */
export const EXACT_COUNT_LIMIT = 1024 ** 3;

/** The tables of a database, as one transaction sees them. */
export interface Tables {
  /** with estimated rows; `exact` is true for tables to count */
  tables: TableFacts[];
  /**
   * Marks the counts of rewritten tables as not exact. Call it when the dump has ended; it ends the session's
   * transaction. A table that was truncated or rewritten after the snapshot looks empty to later readers, even in the
   * same snapshot (Postgres docs, 13.6), so the count and the dump may differ.
   */
  markRewritten(): Promise<void>;
}

/**
 * Lists tables with their sizes and the planner's estimates of their rows. `exact` is false for tables above 1 GiB, and
 * for unlogged tables on a standby: these cannot be read there (Postgres docs, CREATE TABLE: UNLOGGED), and the dump
 * lacks their rows.
 */
export async function listTables(session: Session): Promise<Tables> {
  const rows = await session.all<
    Record<'id' | 'file' | 'schema' | 'name' | 'owner' | 'estimate', string> & {
      bytes: string | null;
      extension: string | null;
      unreadable: boolean;
    }
  >(
    `SELECT c.oid::text AS id, c.relfilenode::text AS file, n.nspname AS schema, c.relname AS name,
            pg_get_userbyid(c.relowner) AS owner, pg_table_size(c.oid)::text AS bytes,
            greatest(c.reltuples, 0)::bigint::text AS estimate, e.extname AS extension,
            c.relpersistence = 'u' AND pg_is_in_recovery() AS unreadable
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
       LEFT JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
      WHERE c.relkind = 'r' AND c.relpersistence <> 't'
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
      ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`,
  );
  const tables = rows.map((row): TableFacts => {
    const bytes = Number(row.bytes);
    const { schema, name, owner, unreadable } = row;
    // A name that is not UTF-8 (SQL_ASCII) arrives with replacement characters, and cannot be used in a query.
    const isNamed = !`${schema}${name}`.includes('\ufffd');
    const table: TableFacts = { schema, name, owner, rows: Number(row.estimate), exact: !unreadable, bytes };
    if (bytes > EXACT_COUNT_LIMIT || !isNamed) markUncounted(table, isNamed ? 'large' : 'name');
    if (row.extension !== null) table.extension = row.extension;
    if (unreadable) table.unloggedOnStandby = true;
    return table;
  });
  const markRewritten = async () => {
    await session.run('COMMIT');
    const now = await session.all<{ id: string; file: string }>(
      'SELECT oid::text AS id, relfilenode::text AS file FROM pg_class',
    );
    const files = new Map(now.map(({ id, file }) => [id, file]));
    tables.forEach((table, i) => {
      const { id, file } = rows[i] as { id: string; file: string };
      if (files.get(id) !== file) markUncounted(table, 'rewritten');
    });
  };
  return { tables, markRewritten };
}
