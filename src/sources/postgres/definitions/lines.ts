import { OTHER_LINES } from './other-lines.ts';
import { leftOut, own, ownOutside, ownTable } from './own.ts';
import { columns, type Lines, named, plain, sorted } from './parts.ts';
import { RIGHTS_LINES } from './rights-lines.ts';
import { ROUTINE_LINES } from './routine-lines.ts';

/** Foreign tables with their servers, and the parents of partitions and inherited tables. */
const TABLES: Lines = (version) => `SELECT n.nspname AS schema, c.relname AS name, ROW(relkind, relpersistence,
    (SELECT amname FROM pg_am a WHERE a.oid = relam), ${sorted('c.reloptions')},
    (SELECT ${sorted('x.reloptions')} FROM pg_class x WHERE x.oid = c.reltoastrelid),
    relrowsecurity, relforcerowsecurity, relreplident, reloftype::regtype,
    ${plain('pg_get_expr(relpartbound, c.oid)')}, ${plain('pg_get_partkeydef(c.oid)')},
    (SELECT array_agg(inhparent::regclass::text ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = c.oid),
    (SELECT ROW(srvname, ${sorted('ftoptions')})::text FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = ftserver
      WHERE ftrelid = c.oid), ${columns(version)})::text AS line
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
 WHERE relkind IN ('r', 'p', 'f') AND relpersistence <> 't' AND ${ownTable('c.oid')}`;

const VIEWS: Lines = (
  version,
) => `SELECT n.nspname AS schema, c.relname AS name, ROW(relkind, ${sorted('c.reloptions')},
    ${plain('pg_get_viewdef(c.oid)')}, ${columns(version)})::text AS line
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
 WHERE relkind IN ('v', 'm') AND relpersistence <> 't' AND ${ownTable('c.oid')}`;

const SEQUENCES: Lines = () => `SELECT n.nspname AS schema, c.relname AS name, ROW(relpersistence, seqtypid::regtype,
    seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle,
    (SELECT array_agg(ROW(refobjid::regclass, attname, deptype)::text) FROM pg_depend d
       JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
      WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype IN ('a', 'i')
        AND refclassid = 'pg_class'::regclass AND refobjsubid > 0))::text AS line
  FROM pg_sequence s JOIN pg_class c ON c.oid = seqrelid JOIN pg_namespace n ON n.oid = relnamespace
 WHERE relpersistence <> 't' AND ${ownTable('c.oid')}`;

/** Without invalid indexes, which are not dumped. */
const INDEXES: Lines = () => `SELECT n.nspname AS schema, c.relname AS name,
    ROW(${plain('pg_get_indexdef(c.oid)')}, indisclustered, indisreplident,
      (SELECT array_agg(inhparent::regclass::text) FROM pg_inherits WHERE inhrelid = c.oid))::text AS line
  FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_class t ON t.oid = indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE (indisvalid OR t.relkind = 'p') AND indisready AND ${ownTable('indrelid')}`;

/** Without those that a partition inherits, and without NOT NULL, which is part of a column. */
const CONSTRAINTS: Lines = () => `SELECT n.nspname AS schema,
    concat(nullif(conrelid, 0)::regclass, nullif(contypid, 0)::regtype, ' ', quote_ident(conname)) AS name,
    ROW(contype, convalidated, ${plain('pg_get_constraintdef(c.oid)')})::text AS line
  FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace
 WHERE contype IN ('p', 'u', 'f', 'c', 'x') AND conparentid = 0 AND ${own('connamespace')}
   AND (conrelid = 0 OR ${ownTable('conrelid')}) AND NOT EXISTS (SELECT FROM pg_depend m
     WHERE m.classid = 'pg_type'::regclass AND m.objid = contypid AND m.deptype = 'e')`;

/** A trigger of a partition that is a copy counts if it was enabled or disabled on its own. */
const TRIGGERS: Lines = () => `SELECT n.nspname AS schema, concat(tgrelid::regclass, ' ', quote_ident(tgname)) AS name,
    ROW(tgenabled, tgparentid = 0, CASE WHEN tgparentid = 0 THEN ${plain('pg_get_triggerdef(t.oid)')} END)::text AS line
  FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace
 WHERE NOT tgisinternal AND ${ownTable('tgrelid')} AND (tgparentid = 0
    OR tgenabled <> (SELECT p.tgenabled FROM pg_trigger p WHERE p.oid = t.tgparentid))`;

const RULES: Lines = () => `SELECT n.nspname AS schema, concat(ev_class::regclass, ' ', quote_ident(rulename)) AS name,
    ROW(ev_enabled, ${plain('pg_get_ruledef(r.oid)')})::text AS line
  FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class JOIN pg_namespace n ON n.oid = relnamespace
 WHERE rulename <> '_RETURN' AND ${ownTable('ev_class')}`;

const POLICIES: Lines =
  () => `SELECT n.nspname AS schema, concat(polrelid::regclass, ' ', quote_ident(polname)) AS name,
    ROW(polcmd, polpermissive, (SELECT array_agg(coalesce(rolname, '') ORDER BY rolname)
        FROM unnest(polroles) u LEFT JOIN pg_roles ON oid = u WHERE u = 0 OR rolname IS NOT NULL),
      ${plain('pg_get_expr(polqual, polrelid)')}, ${plain('pg_get_expr(polwithcheck, polrelid)')})::text AS line
  FROM pg_policy p JOIN pg_class c ON c.oid = polrelid JOIN pg_namespace n ON n.oid = relnamespace
 WHERE ${ownTable('polrelid')}`;

const STATISTICS: Lines = () => `SELECT n.nspname AS schema, stxname AS name,
    ROW(${plain('pg_get_statisticsobjdef(s.oid)')}, stxstattarget)::text AS line
  FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = stxnamespace WHERE ${named('pg_statistic_ext', 's.oid', 'stxnamespace')}`;

/**
 * Comments on objects of the user. pg_dump leaves out those on what a partition or an inherited table copies, on row
 * types, and on the schema `public` as it is by default.
 */
const COMMENTS: Lines = () => `SELECT o.schema, concat(o.type, ' ', o.identity) AS name, description AS line
  FROM pg_description d, pg_identify_object(classoid, objoid, objsubid) o
 WHERE o.identity IS NOT NULL AND (objoid >= 16384 OR classoid = 'pg_largeobject'::regclass)
   AND (o.schema IS NULL OR o.schema !~ '^(pg_(catalog|toast|temp)|information_schema$)')
   AND NOT ${leftOut('o')}
   AND NOT EXISTS (SELECT FROM pg_depend m WHERE m.classid = d.classoid AND m.objid = objoid AND m.deptype = 'e')
   AND NOT EXISTS (SELECT FROM pg_constraint c WHERE classoid = 'pg_constraint'::regclass AND c.oid = objoid
     AND (contype = 'n' OR conparentid <> 0 OR NOT conislocal))
   AND NOT EXISTS (SELECT FROM pg_trigger t WHERE classoid = 'pg_trigger'::regclass AND t.oid = objoid
     AND (tgisinternal OR tgparentid <> 0))
   AND NOT EXISTS (SELECT FROM pg_type t JOIN pg_class c ON c.oid = typrelid
     WHERE classoid = 'pg_type'::regclass AND t.oid = objoid AND relkind <> 'c')`;

/** Schemas, apart from `public`, which every new database has. */
const SCHEMAS: Lines = () => `SELECT nspname AS schema, nspname AS name, '' AS line
  FROM pg_namespace n WHERE ${own('n.oid')} AND ${ownOutside('pg_namespace', 'n.oid')}`;

/** The kinds of definitions that are compared, by their names in the plural. */
export const LINES: Readonly<Record<string, Lines>> = {
  schemas: SCHEMAS,
  tables: TABLES,
  views: VIEWS,
  sequences: SEQUENCES,
  indexes: INDEXES,
  constraints: CONSTRAINTS,
  triggers: TRIGGERS,
  rules: RULES,
  policies: POLICIES,
  'statistics objects': STATISTICS,
  ...ROUTINE_LINES,
  ...OTHER_LINES,
  comments: COMMENTS,
  ...RIGHTS_LINES,
};
