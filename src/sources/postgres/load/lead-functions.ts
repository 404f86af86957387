import type { DatabaseFacts } from '../facts/facts.ts';
import { quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';

/**
 * Names without a schema, as the server's errors write them; the name of an operator has no quotes, and is between its
 * types.
 */
const UNQUALIFIED = [
  /^(?:relation|type|schema|sequence|text search \w+) "?[^".]+"? does not exist/,
  /^operator does not exist: (?!\S*(?:\w|")\.[^\w\s"])\S/,
  /^operator (?:class|family) "[^".]+" does not exist for access method/,
  /^collation "[^".]+" (?:for encoding "[^"]*" )?does not exist/,
  /^function [^".(]+\(.*\) does not exist/,
];

/**
 * True where a function names something without its schema: `pg_restore` has no search_path, nor has maintenance such
 * as CREATE INDEX from Postgres 17 on.
 *
 * @param words what the server said of the object that failed
 */
export function isUnqualified(words: string): boolean {
  return UNQUALIFIED.some((pattern) => pattern.test(words));
}

/** The statements that give one function a search_path, and take it away again. */
interface Lead {
  /** the schema that holds the function */
  schema: string;
  set: string;
  reset: string;
}

/**
 * The signature of a function `p` in schema `n`, as an SQL expression: `public.plus(integer)`. A function has the same
 * signature in every database of a server. Names of parameters do not belong to it.
 */
export const SIGNATURE = "format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes))";

/**
 * Returns statements that give functions the search_path of the recorded database, followed by the schema of the
 * function. Functions with a search_path of their own are left out: RESET would not bring it back.
 *
 * @param session on the database that holds the functions to alter
 * @param only signatures as in {@link SIGNATURE}; absent: all functions of the database that belong to no extension
 */
export async function readLeads(session: Session, recorded: DatabaseFacts, only?: readonly string[]): Promise<Lead[]> {
  const rows = await session.all<{ routine: string; schema: string }>(
    `SELECT format('%I.%I(%s)', nspname, proname, pg_get_function_identity_arguments(p.oid)) AS routine, nspname AS schema
       FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
      WHERE prokind IN ('f', 'p') AND lanname NOT IN ('internal', 'c') AND nspname NOT IN ('pg_catalog', 'information_schema')
        AND ($1::text[] IS NULL OR ${SIGNATURE} = ANY($1))
        AND NOT EXISTS (SELECT FROM unnest(proconfig) c WHERE starts_with(c, 'search_path='))
        AND NOT EXISTS (SELECT FROM pg_depend m
          WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid AND m.deptype IN ('e', 'i'))`,
    [only ?? null],
  );
  return rows.map(({ routine, schema }) => {
    const names = [...searchPath(recorded), schema].map(quoteLiteral).join(', ');
    const alter = `ALTER ROUTINE ${routine}`;
    return { schema, set: `${alter} SET search_path = ${names}`, reset: `${alter} RESET search_path` };
  });
}

/** The schemas in which a recorded database looks for names. */
export function searchPath(recorded: Pick<DatabaseFacts, 'settings'>): string[] {
  return ownSearchPath(recorded) ?? listed('"$user", public');
}

/** The schemas in which a recorded database itself says to look for names; undefined if it does not say it. */
export function ownSearchPath({ settings }: Pick<DatabaseFacts, 'settings'>): string[] | undefined {
  const own = settings.find(({ role }) => role === null)?.config.find((entry) => entry.startsWith('search_path='));
  return own === undefined ? undefined : listed(own.slice('search_path='.length));
}

/** The names of a list as the catalogue has it: `"$user", public`. */
function listed(value: string): string[] {
  const items = value.matchAll(/"((?:[^"]|"")*)"|([^",\s][^",]*)/g);
  return [...items].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? (plain as string).trim());
}
