import type { Tools } from '../server/tools.ts';

/** Members of extension `e` that are neither tables, nor their row types, nor schemas. */
const OTHER_MEMBERS = `pg_depend o WHERE o.deptype = 'e' AND o.refclassid = 'pg_extension'::regclass AND o.refobjid = e.oid
    AND o.classid NOT IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_namespace'::regclass)`;

/**
 * True for a member of an extension that somebody added with ALTER EXTENSION … ADD. A script of the extension creates
 * all its members in one transaction, which also updates the extension or creates functions and other objects. A table
 * comes with its row type. pg_upgrade adds each member in a separate transaction, so an extension without two members
 * of one transaction shows nothing.
 */
const ADDED = `d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND d.xmin <> e.xmin
  AND NOT EXISTS (SELECT FROM ${OTHER_MEMBERS} AND o.xmin = d.xmin)
  AND EXISTS (SELECT FROM ${OTHER_MEMBERS} GROUP BY o.xmin::text HAVING count(*) > 1)`;

/** Objects of people have larger OIDs (Postgres docs, 73.2, FirstNormalObjectId in transam.h). */
const FIRST_OWN = 16384;

const isMember = (id: string, catalogue: string) =>
  `EXISTS (SELECT FROM pg_depend WHERE classid = '${catalogue}'::regclass AND objid = ${id} AND deptype = 'e')`;

/**
 * Tables and functions in the schemas of the system, which pg_dump leaves out (selectDumpableNamespace in pg_dump.c).
 */
const IN_SYSTEM_SCHEMAS = `SELECT format('%s %I.%I is in a schema of the system, so it is not in the dump: move it to another schema', kind, nspname, name) AS warning
  FROM (SELECT 'table' AS kind, relnamespace AS space, relname AS name FROM pg_class
         WHERE relkind IN ('r', 'p', 'm', 'f') AND oid >= ${FIRST_OWN} AND NOT ${isMember('pg_class.oid', 'pg_class')}
        UNION ALL SELECT 'function', pronamespace, proname FROM pg_proc
         WHERE oid >= ${FIRST_OWN} AND NOT ${isMember('pg_proc.oid', 'pg_proc')}) o
  JOIN pg_namespace n ON n.oid = space WHERE nspname IN ('pg_catalog', 'information_schema') ORDER BY 1`;

/**
 * Tables that belong to an extension whose CREATE EXTENSION does not make them, and whose rows it does not hand to
 * pg_dump.
 */
const ADDED_TABLES = `SELECT format('table %I.%I was added to extension %I, so it is not in the dump: ALTER EXTENSION %I DROP TABLE %I.%I', nspname, relname, extname, extname, nspname, relname) AS warning
  FROM pg_depend d JOIN pg_extension e ON true JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
  JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p') AND c.oid <> ALL (coalesce(extconfig, '{}')) AND ${ADDED} ORDER BY 1`;

/** Schemas of the same kind. pg_dump leaves them out, but not the tables in them. */
const ADDED_SCHEMAS = `SELECT format('schema %I was added to extension %I, so it is not in the dump, and a restore cannot create what is in it: ALTER EXTENSION %I DROP SCHEMA %I', nspname, extname, extname, nspname) AS warning
  FROM pg_depend d JOIN pg_extension e ON true JOIN pg_namespace n ON d.classid = 'pg_namespace'::regclass AND n.oid = d.objid
  WHERE ${ADDED} ORDER BY 1`;

/**
 * Queries for objects that pg_dump leaves out and a restore cannot bring back, as `warning`: the object, why, and what
 * helps.
 */
export const LEFT_OUT: readonly string[] = [IN_SYSTEM_SCHEMAS, ADDED_TABLES, ADDED_SCHEMAS];

/**
 * Warns of tables that users created in `template1`, which is not dumped unless it is named. The session is short,
 * because CREATE DATABASE waits up to 5 seconds until nobody uses its template. If the server refuses, finds nothing.
 */
export async function findInTemplate(tools: Tools, signal: AbortSignal): Promise<string[]> {
  try {
    const session = await tools.session('template1', signal);
    try {
      const tables = await session.all<{ name: string }>(
        `SELECT format('%I.%I', nspname, relname) AS name FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
          WHERE relkind IN ('r', 'p', 'm', 'f') AND pg_class.oid >= ${FIRST_OWN} AND NOT ${isMember('pg_class.oid', 'pg_class')}
            AND nspname !~ '^pg_(toast|temp)' ORDER BY 1 LIMIT 5`,
      );
      if (tables.length === 0) return [];
      const names = tables.map(({ name }) => name).join(', ');
      return [
        `database template1 has tables (${names}) and is not backed up: name it in lifeboat.postgres.databases to store them`,
      ];
    } finally {
      await session.close();
    }
  } catch {
    signal.throwIfAborted();
    return [];
  }
}
