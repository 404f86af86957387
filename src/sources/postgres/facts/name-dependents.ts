import type { Session } from '../server/session.ts';

/** An object whose stored content depends on the name of its database. */
export interface NameDependent {
  kind: 'materialized view' | 'index' | 'generated column' | 'constraint' | 'partition key';
  /** quoted, with its schema */
  object: string;
  /** the statement that computes the content again; null if no single statement does so */
  statement: string | null;
  /** the relation, quoted, whose statistics are outdated after the statement; null if there is none */
  relation: string | null;
}

/** Matches expressions that return the name of the database (Postgres docs, 9.27). */
const READS_NAME = String.raw`'\m(current_database|current_catalog)\M'`;

const named = (id: string) =>
  `(SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE pg_class.oid = ${id})`;

/**
 * `readers`: functions whose body reads the name, or names such a function. Bodies are texts, so this can only search
 * for the names. `seen`: the relations that a materialized view reads, at any depth.
 */
const dependents = (versionNumber: number) => `WITH RECURSIVE bodies AS MATERIALIZED (
    SELECT p.oid, proname AS name, ${versionNumber >= 140000 ? 'coalesce(pg_get_function_sqlbody(p.oid), prosrc)' : 'prosrc'} AS body
      FROM pg_proc p JOIN pg_language l ON l.oid = prolang WHERE lanname NOT IN ('c', 'internal')
  ), readers AS (
    SELECT oid, name FROM bodies WHERE body ~* ${READS_NAME}
    UNION SELECT b.oid, b.name FROM readers r JOIN bodies b
      ON b.body ~* ('\\m' || regexp_replace(r.name, '\\W', '.', 'g') || '\\M')
  ), columns AS (
    SELECT DISTINCT attrelid, attnum, attname, attinhcount FROM pg_depend d
      LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = objid
      JOIN pg_attribute ON attrelid = coalesce(adrelid, CASE WHEN d.classid = 'pg_class'::regclass THEN objid END)
                       AND attnum = coalesce(adnum, objsubid)
     WHERE refclassid = 'pg_proc'::regclass AND refobjid IN (SELECT oid FROM readers) AND attgenerated = 's'
  ), seen(root, rel, depth) AS (
    SELECT oid, oid, 0 FROM pg_class WHERE relkind = 'm' AND relispopulated
    UNION SELECT root, d.refobjid, depth + 1 FROM seen JOIN pg_rewrite r ON ev_class = rel
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
     WHERE d.refobjid <> rel
  ), relations AS MATERIALIZED (
    SELECT rel FROM (SELECT DISTINCT rel FROM seen) s JOIN pg_class c ON c.oid = rel WHERE relkind IN ('v', 'm') AND (
      pg_get_viewdef(rel) ~* ${READS_NAME}
      OR EXISTS (SELECT FROM pg_rewrite r JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = r.oid
        WHERE ev_class = rel AND refclassid = 'pg_proc'::regclass AND refobjid IN (SELECT oid FROM readers)))
    UNION SELECT attrelid FROM columns
  ), found(place, kind, object, relation, statement) AS (
    SELECT 0, 'generated column', ${named('attrelid')} || '.' || quote_ident(attname), ${named('attrelid')}, ${
      versionNumber >= 170000
        ? `format('ALTER TABLE %s ALTER COLUMN %I SET EXPRESSION AS (%s)', ${named('attrelid')}, attname,
             (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))`
        : 'NULL'
    }
      FROM columns WHERE attinhcount = 0
    UNION SELECT 1 + (SELECT max(depth) FROM seen WHERE root = s.root)::int, 'materialized view', ${named('root')}, ${named('root')},
        'REFRESH MATERIALIZED VIEW ' || ${named('root')}
      FROM seen s WHERE rel IN (SELECT rel FROM relations)
    UNION SELECT 1000000, 'index', ${named('objid')}, NULL, 'REINDEX INDEX ' || ${named('objid')}
      FROM pg_depend JOIN pg_class i ON i.oid = objid AND relkind = 'i'
     WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_proc'::regclass AND refobjid IN (SELECT oid FROM readers)
    UNION SELECT 1000001, 'constraint', format('%I', conname) || coalesce(' of ' || ${named('conrelid')}, ''), NULL, NULL
      FROM pg_constraint c WHERE contype = 'c' AND conparentid = 0 AND coninhcount = 0 AND (pg_get_constraintdef(oid) ~* ${READS_NAME}
        OR EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_constraint'::regclass AND objid = c.oid
          AND refclassid = 'pg_proc'::regclass AND refobjid IN (SELECT oid FROM readers)))
    UNION SELECT 1000001, 'partition key', ${named('objid')}, NULL, NULL
      FROM pg_depend JOIN pg_partitioned_table ON partrelid = objid
     WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_proc'::regclass AND refobjid IN (SELECT oid FROM readers)
  )
  SELECT kind, object, relation, statement FROM found ORDER BY place, object`;

/**
 * Finds what depends on the name of the session's database through current_database() or CURRENT_CATALOG, also in
 * functions and views. A restore builds a database under another name, so these objects get other content. They are in
 * the order in which their statements can run.
 */
export function findNameDependents(session: Session): Promise<NameDependent[]> {
  return session.all<NameDependent>(dependents(session.versionNumber));
}
