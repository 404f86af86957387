import { findNameDependents, type NameDependent } from '../facts/name-dependents.ts';
import { inSavepoint } from '../server/savepoint.ts';
import type { Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';
import { LEFT_OUT } from './left-out.ts';
import { findOrphans } from './orphans.ts';

/** A function that something calls while a restore builds it. */
interface Call {
  /** `index`, `generated column`, `constraint`, `materialized view` */
  kind: string;
  /** as SQL writes it, with its schema */
  object: string;
  id: string;
  function: string;
  /** of the function */
  schema: string;
  language: 'sql' | 'plpgsql';
  source: string;
}

/** In a schema of people. */
const OWN = "nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)'";

/** A relation with its schema, whatever the path is. */
const named = (id: string) =>
  `(SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE pg_class.oid = ${id})`;

/**
 * Functions in SQL and PL/pgSQL that indexes, stored generated columns, constraints and materialized views call
 * (pg_depend), directly or through views. Leaves out those that cannot depend on the path of their caller: functions
 * with a `search_path` of their own, or with a body that was parsed at their creation (Postgres docs, CREATE FUNCTION:
 * sql_body).
 */
const calls = (versionNumber: number) => `WITH RECURSIVE seen(root, rel) AS (
    SELECT oid, oid FROM pg_class WHERE relkind = 'm' AND relispopulated
    UNION SELECT root, d.refobjid FROM seen JOIN pg_rewrite r ON ev_class = rel
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
      JOIN pg_class v ON v.oid = d.refobjid AND v.relkind = 'v'
  ), calls(kind, object, fn) AS (
    SELECT 'index', ${named('objid')}, refobjid FROM pg_depend JOIN pg_index ON indexrelid = objid
      WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_proc'::regclass
    UNION SELECT 'generated column', ${named('attrelid')} || '.' || quote_ident(attname), refobjid
      FROM pg_depend JOIN pg_attrdef f ON f.oid = objid JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
      WHERE classid = 'pg_attrdef'::regclass AND refclassid = 'pg_proc'::regclass AND attgenerated = 's'
    UNION SELECT 'generated column', ${named('attrelid')} || '.' || quote_ident(attname), refobjid
      FROM pg_depend JOIN pg_attribute ON attrelid = objid AND attnum = objsubid
      WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_proc'::regclass AND attgenerated = 's'
    UNION SELECT 'constraint', format('%I', conname) || coalesce(' of ' || ${named('conrelid')}, ''), refobjid
      FROM pg_depend JOIN pg_constraint c ON c.oid = objid AND contype = 'c' AND convalidated
      WHERE classid = 'pg_constraint'::regclass AND refclassid = 'pg_proc'::regclass
    UNION SELECT 'materialized view', ${named('root')}, refobjid FROM seen JOIN pg_rewrite r ON ev_class = rel
      JOIN pg_depend d ON classid = 'pg_rewrite'::regclass AND objid = r.oid AND refclassid = 'pg_proc'::regclass
  )
  SELECT kind, object, p.oid::text AS id, format('%I.%I(%s)', nspname, proname, pg_get_function_identity_arguments(p.oid)) AS function,
         quote_ident(nspname) AS schema, lanname AS language, prosrc AS source
    FROM calls JOIN pg_proc p ON p.oid = fn JOIN pg_language l ON l.oid = prolang JOIN pg_namespace n ON n.oid = pronamespace
   WHERE lanname IN ('sql', 'plpgsql') AND ${OWN} ${versionNumber >= 140000 ? 'AND prosqlbody IS NULL' : ''}
     AND NOT EXISTS (SELECT FROM unnest(proconfig) c WHERE c LIKE 'search_path=%')
   ORDER BY kind, object, function`;

/** The most functions that are examined for one database, and the most warnings about it. */
const MAX_FUNCTIONS = 500;
const MAX_WARNINGS = 10;

/**
 * Finds objects of a dump that a restore cannot build, as far as that shows without running foreign code: indexes that
 * are not valid, rows without a parent, and objects whose functions find names by the `search_path`. That path is empty
 * while a restore builds them. Call this in a transaction. Resolves to warnings, each with the object and a remedy.
 * Does not reject if the server refuses a query.
 */
export async function findFragile(session: Session, database: string): Promise<string[]> {
  const warnings: string[] = [];
  // First, because the number of warnings is limited: lost data matters more than objects that a restore has to repair.
  for (const query of LEFT_OUT) warnings.push(...(await readWarnings(session, database, query)));
  const found = await inSavepoint(session, () => session.all<Call>(calls(session.versionNumber)));
  const verdicts = new Map<string, string | undefined>();
  for (const call of Array.isArray(found) ? found : []) {
    if (!verdicts.has(call.id) && verdicts.size >= MAX_FUNCTIONS) continue;
    const why = verdicts.has(call.id) ? verdicts.get(call.id) : await whyFragile(session, call);
    verdicts.set(call.id, why);
    if (why === undefined) continue;
    warnings.push(
      `database ${database}: ${call.kind} ${call.object} is stored, and a restore may fail to build it: ${call.function} finds names by the search_path, which is empty then (${why}). Name the schemas in its body, or ALTER FUNCTION ${call.function} SET search_path = ${call.schema}`,
    );
  }
  const dependents = await inSavepoint(session, () => findNameDependents(session));
  warnings.push(...(Array.isArray(dependents) ? dependents : []).flatMap((one) => nameWarning(database, one)));
  for (const query of [INVALID_INDEXES, COLLATIONS, LOGIN_TRIGGERS]) {
    warnings.push(...(await readWarnings(session, database, query)));
  }
  warnings.push(...(await findOrphans(session)).map((warning) => `database ${database}: ${warning}`));
  const more = warnings.length - MAX_WARNINGS;
  return more > 0 ? [...warnings.slice(0, MAX_WARNINGS), `database ${database}: ${more} more like these`] : warnings;
}

/** Returns the warnings that a query finds; none if the server refuses the query. */
async function readWarnings(session: Session, database: string, query: string): Promise<string[]> {
  const rows = await inSavepoint(session, () => session.all<{ warning: string }>(query));
  return Array.isArray(rows) ? rows.map(({ warning }) => `database ${database}: ${warning}`) : [];
}

/** Warns of what a restore, which builds a database under another name, can not compute again or may refuse. */
function nameWarning(database: string, { kind, object, statement }: NameDependent): string[] {
  if (statement !== null) return [];
  const what = kind === 'generated column' ? 'its values are computed for that name' : 'rows may be refused';
  return [
    `database ${database}: ${kind} ${object} depends on the name of the database. A restore builds the database under another name first, so ${what}: do not use current_database() there`,
  ];
}

/** Indexes that pg_dump leaves out; not those that are being built. */
const INVALID_INDEXES = `SELECT format('index %I.%I is not valid, so it is not in the dump: REINDEX it, or drop it', nspname, relname) AS warning
  FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = relnamespace
  WHERE NOT indisvalid AND relkind = 'i' AND ${OWN} AND NOT EXISTS
    (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = indexrelid OR p.relid = indrelid)
  ORDER BY 1`;

/** Collations of indexes that the operating system sorts by in another way now: equal keys may have come in. */
const COLLATIONS = `SELECT format('collation %I.%I is of version %s now, and was of %s: its %s may hold keys twice, and a restore refuses those; REINDEX, then ALTER COLLATION … REFRESH VERSION',
    nspname, collname, pg_collation_actual_version(c.oid), collversion, CASE WHEN count(*) = 1 THEN '1 index' ELSE count(*) || ' indexes' END) AS warning
  FROM pg_collation c JOIN pg_namespace n ON n.oid = collnamespace JOIN pg_index i ON c.oid = ANY (i.indcollation::oid[])
  WHERE collversion IS NOT NULL AND collversion <> pg_collation_actual_version(c.oid) GROUP BY c.oid, nspname, collname, collversion`;

/**
 * Login event triggers (17 and newer) that a role without the right to switch them off fires: see {@link SessionStart}.
 */
const LOGIN_TRIGGERS = `SELECT format('login event trigger %I fires whenever Lifeboat connects, since role %I may not switch it off, and what it writes is in the backup: GRANT SET ON PARAMETER event_triggers TO %I',
    evtname, current_user, current_user) AS warning
  FROM pg_event_trigger WHERE evtevent = 'login' AND evtenabled IN ('O', 'A')
   AND current_setting('event_triggers', true) IS DISTINCT FROM 'off' ORDER BY 1`;

/** Why a function does not work with an empty path, as far as that can be seen; undefined where it cannot. */
async function whyFragile(session: Session, call: Call): Promise<string | undefined> {
  // The validators parse the body under the path of this session, and run nothing of it. That of PL/pgSQL looks at
  // types alone.
  const validator = call.language === 'sql' ? 'pg_catalog.fmgr_sql_validator' : 'pg_catalog.plpgsql_validator';
  const refused = await inSavepoint(session, () => session.all(`SELECT ${validator}($1::oid)`, [call.id]));
  if (refused instanceof Error && /^(42P01|42883|42704|3F000|42703)$/.test(sqlState(refused) ?? '')) {
    return messageOf(refused);
  }
  if (call.language === 'sql') return undefined;
  const { tables, functions } = unqualifiedNames(call.source);
  const known = await inSavepoint(session, () =>
    session.all<{ name: string }>(
      `SELECT relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = ANY ($1) AND ${OWN}
         AND NOT EXISTS (SELECT FROM pg_class s WHERE s.relname = c.relname AND s.relnamespace = 'pg_catalog'::regnamespace)
       UNION SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE proname = ANY ($2) AND ${OWN}
         AND NOT EXISTS (SELECT FROM pg_proc s WHERE s.proname = p.proname AND s.pronamespace = 'pg_catalog'::regnamespace)
       ORDER BY 1`,
      [tables, functions],
    ),
  );
  return Array.isArray(known) && known[0] ? `it names ${known[0].name} without a schema` : undefined;
}

/**
 * Tables that a body reads and functions that it calls without naming their schema; comments and texts are left out.
 */
export function unqualifiedNames(body: string): { tables: string[]; functions: string[] } {
  const code = body.replaceAll(/--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'/g, ' ');
  const own = (name: string) => (name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name.toLowerCase());
  const name = '("(?:[^"]|"")+"|[A-Za-z_][\\w$]*)';
  const all = (pattern: string) =>
    [...code.matchAll(new RegExp(pattern, 'gi'))].map(([, found]) => own(found as string));
  return {
    tables: all(`\\b(?:from|join)\\s+(?:only\\s+)?${name}(?![\\w$"]|\\s*[.(])`),
    functions: all(`(?<![\\w$".]|\\.\\s)${name}\\s*\\(`),
  };
}

function messageOf(error: unknown): string {
  let message = '';
  for (let e = error; e instanceof Error; e = e.cause) message = e.message;
  return message;
}
