import { LifeboatError } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { derivedName, freeName, type Named, quoteName } from './table-names.ts';
import type { ChosenTable } from './table-parts.ts';
import { namesIn, targetExists } from './taken-names.ts';

/** A table with its name in the live database. */
interface ShapedTable extends Named {
  chosen: ChosenTable;
}

export interface Shaped {
  tables: ShapedTable[];
  /** links to tables that only the live database has: a description and the statement */
  links: { what: string; sql: string }[];
  /** statements for extended statistics, which `pg_dump` leaves out of dumps of single tables */
  statistics: { what: string; sql: string }[];
  warnings: string[];
}

interface Relation extends Named {
  oid: string;
}

/**
 * Prepares tables in a working database for the copy to the live one: detaches them from tables that are not copied,
 * and renames relations whose names are taken there. With `as`, everything that belongs to the table is renamed
 * accordingly.
 *
 * @throws PG_TARGET_EXISTS; the errors of a session
 */
export async function shapeTables(
  working: Session,
  live: Session,
  { tables, as }: { tables: readonly ChosenTable[]; as?: string | undefined },
): Promise<Shaped> {
  const relations = await findTables(working, tables);
  const ids = relations.map(({ oid }) => oid);
  const links = await setApart(working, ids);
  const warnings = await heirs(working, ids);
  const shaped = await rename(working, live, { tables, relations, as, warnings });
  const statistics = await working.all<{ name: string; sql: string }>(
    `SELECT stxname AS name, pg_get_statisticsobjdef(oid) AS sql FROM pg_statistic_ext
      WHERE stxrelid = ANY($1::oid[]) ORDER BY stxname`,
    [ids],
  );
  return {
    tables: shaped,
    // A copy must not add rows to a partitioned or inherited table.
    links: as === undefined ? links : [],
    statistics: statistics.map(({ name, sql }) => ({ what: `statistics ${name}`, sql })),
    warnings,
  };
}

async function findTables(session: Session, tables: readonly Named[]): Promise<Relation[]> {
  const rows = await session.all<Relation>(
    `SELECT c.oid::text AS oid, n.nspname AS schema, c.relname AS name
       FROM unnest($1::text[], $2::text[]) WITH ORDINALITY w(s, t, i)
       JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t ORDER BY i`,
    [tables.map(({ schema }) => schema), tables.map(({ name }) => name)],
  );
  if (rows.length !== tables.length) {
    throw new LifeboatError(
      'PG_RESTORE_FAILED',
      `${rows.length} of ${plural(tables.length, 'table')} came out of the dump`,
    );
  }
  return rows;
}

/**
 * Detaches tables from partitioned or inherited tables that are not copied. Returns the statements that attach them
 * again.
 */
async function setApart(session: Session, ids: readonly string[]): Promise<Shaped['links']> {
  const rows = await session.all<Record<'schema' | 'name' | 'inSchema' | 'parent', string> & { bound: string | null }>(
    `SELECT n.nspname AS schema, c.relname AS name, pn.nspname AS "inSchema", p.relname AS parent,
            pg_get_expr(c.relpartbound, c.oid) AS bound
       FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
      WHERE i.inhrelid = ANY($1::oid[]) AND NOT i.inhparent = ANY($1::oid[]) ORDER BY i.inhrelid, i.inhseqno`,
    [ids],
  );
  const links: Shaped['links'] = [];
  for (const { schema, name, inSchema, parent, bound } of rows) {
    const [own, other] = [quoteName({ schema, name }), quoteName({ schema: inSchema, name: parent })];
    const what = `${schema}.${name} as part of ${inSchema}.${parent}`;
    await session.run(
      bound === null ? `ALTER TABLE ${own} NO INHERIT ${other}` : `ALTER TABLE ${other} DETACH PARTITION ${own}`,
    );
    const sql =
      bound === null ? `ALTER TABLE ${own} INHERIT ${other}` : `ALTER TABLE ${other} ATTACH PARTITION ${own} ${bound}`;
    links.push({ what, sql });
  }
  return links;
}

async function heirs(session: Session, ids: readonly string[]): Promise<string[]> {
  const rows = await session.all<{ parent: string; names: string }>(
    `SELECT p.relname AS parent, string_agg(c.relname, ', ' ORDER BY c.relname) AS names
       FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
      WHERE i.inhparent = ANY($1::oid[]) AND NOT i.inhrelid = ANY($1::oid[]) GROUP BY p.relname ORDER BY 1`,
    [ids],
  );
  return rows.map(({ parent, names }) => `tables that inherit from ${parent} are not restored with it: ${names}`);
}

/**
 * Indexes, owned sequences and statistics of tables. Their names are unique in the schema, together with those of
 * tables.
 */
const BELONGING = `
  SELECT 'TABLE' AS kind, n.nspname AS schema, c.relname AS name, i.indrelid::text AS of
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE i.indrelid = ANY($1::oid[])
  UNION ALL
  SELECT 'TABLE', n.nspname, c.relname, d.refobjid::text
    FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
     AND d.refobjid = ANY($1::oid[])
  UNION ALL
  SELECT 'STATISTICS', n.nspname, s.stxname, s.stxrelid::text
    FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = ANY($1::oid[])
  ORDER BY 2, 3`;

async function rename(
  working: Session,
  live: Session,
  work: { tables: readonly ChosenTable[]; relations: Relation[]; as: string | undefined; warnings: string[] },
): Promise<ShapedTable[]> {
  const { tables, relations, as, warnings } = work;
  const belonging = await working.all<Named & { kind: string; of: string }>(BELONGING, [
    relations.map(({ oid }) => oid),
  ]);
  const schemas = [...new Set([...relations, ...belonging].map(({ schema }) => schema))];
  const here = await namesIn(working, schemas);
  const there = await namesIn(live, schemas);
  const nameFor = (schema: string, wanted: string) => {
    const free = freeName(wanted, new Set([...(here.get(schema) ?? []), ...(there.get(schema) ?? [])]));
    here.get(schema)?.add(free);
    return free;
  };
  const root = tables[0] as ChosenTable;
  const shaped = tables.map((chosen): ShapedTable => {
    const { schema, name } = chosen;
    if (as === undefined) return { chosen, schema, name };
    return { chosen, schema, name: chosen === root ? as : nameFor(schema, derivedName(name, root.name, as)) };
  });
  for (const table of shaped) if (there.get(table.schema)?.has(table.name)) throw await targetExists(live, table);
  if (as !== undefined && here.get(root.schema)?.has(as)) await putAside(working, root.schema, as);
  for (const { chosen, schema, name } of shaped) {
    if (name !== chosen.name) await working.run(renameTo('TABLE', chosen, name));
    here.get(schema)?.add(name);
  }
  for (const one of belonging) {
    const { kind, schema, name } = one;
    if (as === undefined && !there.get(schema)?.has(name)) continue;
    const wanted = as === undefined ? name : derivedName(name, root.name, as);
    const free = nameFor(schema, wanted);
    await working.run(renameTo(kind, one, free));
    if (as === undefined)
      warnings.push(`${schema}.${name} is renamed to ${free}, because the database has an object of that name`);
  }
  return shaped;
}

/** Renames an object of the working database that has a name which the copied table needs. */
async function putAside(session: Session, schema: string, name: string): Promise<void> {
  const values = [schema, name];
  const [relation] = await session.all(
    'SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relname = $2',
    values,
  );
  const [type] = await session.all(
    "SELECT FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace WHERE nspname = $1 AND typname = $2 AND typtype <> 'c'",
    values,
  );
  const taken = (await namesIn(session, [schema])).get(schema) ?? new Set();
  if (relation) await session.run(renameTo('TABLE', { schema, name }, freeName('lifeboat_aside', taken)));
  else if (type) await session.run(renameTo('TYPE', { schema, name }, freeName('lifeboat_aside', taken)));
}

function renameTo(kind: string, from: Named, to: string): string {
  // ALTER TABLE takes indexes and sequences too.
  return `ALTER ${kind} ${quoteName(from)} RENAME TO ${quoteIdentifier(to)}`;
}
