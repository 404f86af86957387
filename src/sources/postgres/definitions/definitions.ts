import { inSavepoint } from '../server/savepoint.ts';
import type { Session } from '../server/session.ts';
import { LINES } from './lines.ts';
import { own } from './own.ts';
import { asPrinted, type Lines } from './parts.ts';

/** The digest of all objects of a kind, or of those in one schema. */
export interface Digest {
  /** `tables`, `rights on functions` */
  kind: string;
  /** absent for objects outside of schemas, and in databases with many schemas */
  schema?: string;
  objects: number;
  /** over the sorted hashes of all definitions */
  sha256: string;
  /** the same over definitions as the server prints them, with casts and parentheses; absent without expressions */
  printed?: string;
  /**
   * Two sums over all objects, modulo {@link PRIME}, hexadecimal: of the hash of the definition, and of its product
   * with the hash of the name. If a single object differs, the quotient of the differences tells its name.
   */
  sums: { definitions: string; places: string };
}

/** The definitions and rights of all objects of a database. The size does not depend on the number of objects. */
export interface Definitions {
  /** the {@link PRINTING} that made them: only those of the same one can be compared */
  printing: number;
  /** one digest for each schema */
  bySchema: boolean;
  digests: Digest[];
  /**
   * kinds, in one schema or in all, that are not compared: they changed meanwhile, the server did not tell, or the dump
   * lacks them
   */
  left: { kind: string; schema?: string; why: 'changed' | 'refused' | 'undumped' }[];
}

/** Identifies the queries. Raise it when the line of an object becomes another one. */
export const PRINTING = 2;

/** A prime below 2^61. */
export const PRIME = 2n ** 61n - 1n;

/** More schemas share one digest of each kind, so that the record stays small. */
const MOST_SCHEMAS = 20;

/** Reading all kinds takes at most this long, and waits at most this long for a lock, milliseconds. */
const LIMIT_MS = 120_000;
const LOCK_LIMIT_MS = 5000;

/** Settings that change how the server prints a definition, and such that would only make these queries slower. */
const SETTINGS = [
  `lock_timeout = ${LOCK_LIMIT_MS}`,
  'search_path = pg_catalog',
  'quote_all_identifiers = off',
  'standard_conforming_strings = on',
  "DateStyle = 'ISO, MDY'",
  "IntervalStyle = 'postgres'",
  "TimeZone = 'UTC'",
  'extra_float_digits = 3',
  "bytea_output = 'hex'",
  "lc_monetary = 'C'",
  'jit = off',
];

/**
 * Reads digests of all definitions and rights in the session's database, in its transaction. The server computes them,
 * and only reads.
 *
 * @param how `bySchema`: as in the record to compare with, absent: whether there are few schemas. `readingMs`: returns
 * how long it may take, milliseconds; what is not read by then is left out
 */
export async function readDefinitions(
  session: Session,
  { bySchema, readingMs = () => LIMIT_MS }: { bySchema?: boolean; readingMs?(): number } = {},
): Promise<Definitions> {
  const few = bySchema ?? (await hasFewSchemas(session));
  const began = performance.now();
  const found: Definitions = { printing: PRINTING, bySchema: few, digests: [], left: [] };
  for (const [kind, lines] of Object.entries(LINES)) {
    const digests = await inSettings(session, began + readingMs(), () => digest(session, kind, lines, few));
    if (digests instanceof Error) found.left.push({ kind, why: 'refused' });
    else found.digests.push(...digests);
  }
  if (!found.digests.some(({ kind }) => kind === SUBSCRIPTIONS) || (await isSuperuser(session))) return found;
  // getSubscriptions in pg_dump.c, in all versions.
  found.left.push({ kind: SUBSCRIPTIONS, why: 'undumped' });
  return { ...found, digests: found.digests.filter(({ kind }) => kind !== SUBSCRIPTIONS) };
}

/** The kind that only a superuser can dump. */
const SUBSCRIPTIONS = 'subscriptions';

async function isSuperuser(session: Session): Promise<boolean> {
  const { superuser } = await session.one<{ superuser: boolean }>(
    "SELECT current_setting('is_superuser') = 'on' AS superuser",
  );
  return superuser;
}

/** Reads the names of the objects of a kind, with the hashes of their names, as {@link Digest} has them. */
export async function readPlaces(session: Session, { kind, schema }: Pick<Digest, 'kind' | 'schema'>) {
  const lines = LINES[kind];
  const places = await inSettings(session, performance.now() + LIMIT_MS, async () =>
    lines === undefined
      ? []
      : session.all<{ name: string; place: string }>(
          `SELECT CASE WHEN position(quote_ident(schema) || '.' IN name) > 0 THEN name
                       ELSE concat(quote_ident(schema) || '.', name) END AS name, ${place('schema, name')}::text AS place
             FROM (${lines(session.versionNumber)}) l ${schema === undefined ? '' : 'WHERE schema = $1'}`,
          schema === undefined ? [] : [schema],
        ),
  );
  return places instanceof Error ? [] : places;
}

async function hasFewSchemas(session: Session): Promise<boolean> {
  const { schemas } = await session.one<{ schemas: number }>(
    `SELECT count(*)::int AS schemas FROM pg_namespace n WHERE ${own('n.oid')}`,
  );
  return schemas <= MOST_SCHEMAS;
}

/** @param until when to stop, by `performance.now()` */
function inSettings<T>(session: Session, until: number, read: () => Promise<T>): Promise<T | Error> {
  return inSavepoint(session, async () => {
    const limit = `statement_timeout = ${Math.max(1, Math.ceil(until - performance.now()))}`;
    await session.run([...SETTINGS, limit].map((setting) => `SET LOCAL ${setting}`).join('; '));
    return read();
  });
}

/** Names and definitions as the bytes that the server has: not all of them may be text in another encoding. */
const hash = (row: string) => `sha256(convert_to(ROW(${row})::text, getdatabaseencoding()))`;
/** The first 60 bits of a hash. */
const number = (bytes: string) => `('x' || substr(encode(${bytes}, 'hex'), 1, 15))::bit(60)::bigint`;
const place = (row: string) => number(hash(row));

async function digest(session: Session, kind: string, lines: Lines, bySchema: boolean): Promise<Digest[]> {
  const rows = await session.all<
    Omit<Digest, 'kind' | 'schema' | 'sums'> & Record<'definitions' | 'places', string> & { schema: string | null }
  >(
    `SELECT schema, count(*)::int AS objects, encode(sha256(string_agg(hash, ''::bytea ORDER BY hash)), 'hex') AS sha256,
            mod(sum(definition::numeric), ${PRIME})::text AS definitions,
            mod(sum(definition::numeric * place), ${PRIME})::text AS places
       FROM (SELECT ${bySchema ? 'schema' : 'NULL AS schema'}, hash, ${number('hash')} AS definition, place
               FROM (SELECT schema, ${hash('schema, name, line')} AS hash, ${place('schema, name')} AS place
                       FROM (${lines(session.versionNumber)}) l OFFSET 0) h) o
      GROUP BY 1 ORDER BY 1`,
  );
  const printed = await printedDigests(session, lines, bySchema);
  return rows.map(({ schema, objects, sha256, definitions, places }) => ({
    ...{ kind, ...(schema === null ? {} : { schema }), objects, sha256 },
    ...(printed === undefined ? {} : { printed: printed.get(schema) ?? '' }),
    sums: { definitions: BigInt(definitions).toString(16), places: BigInt(places).toString(16) },
  }));
}

/** Reads digests of the definitions as the server prints them, by schema; undefined for a kind without expressions. */
async function printedDigests(
  session: Session,
  lines: Lines,
  bySchema: boolean,
): Promise<Map<string | null, string> | undefined> {
  const printed = asPrinted(lines(session.versionNumber));
  if (printed === undefined) return undefined;
  const rows = await session.all<{ schema: string | null; sha256: string }>(
    `SELECT schema, encode(sha256(string_agg(hash, ''::bytea ORDER BY hash)), 'hex') AS sha256
       FROM (SELECT ${bySchema ? 'schema' : 'NULL AS schema'}, ${hash('schema, name, line')} AS hash
               FROM (${printed}) l OFFSET 0) h GROUP BY 1`,
  );
  return new Map(rows.map(({ schema, sha256 }) => [schema, sha256]));
}
