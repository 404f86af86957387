import type { Session } from '../server/session.ts';

/** How many objects of each kind people made in a database; those of extensions and of the system do not count. */
export type ObjectCounts = Record<keyof typeof QUERIES, number>;

/** Those that pg_dump leaves to the extension which made them (pg_depend: e). */
const member = (classId: string, objectId: string) =>
  `EXISTS (SELECT FROM pg_depend m WHERE m.classid = '${classId}'::regclass AND m.objid = ${objectId} AND m.deptype = 'e')`;

/** In a schema of people, whatever its alias. */
const own = (namespace: string) =>
  `${namespace} IN (SELECT oid FROM pg_namespace
     WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_(toast|temp)')`;

/** A table of people: what hangs on one of an extension's is the extension's too. */
const ownTable = (id: string) =>
  `${id} IN (SELECT t.oid FROM pg_class t WHERE ${own('t.relnamespace')} AND NOT ${member('pg_class', 't.oid')})`;

/**
 * Counts that are the same in every version of Postgres from 13 on. What a partition has from its parent does not count
 * where its row in the catalogue depends on the version; NOT NULL is a constraint of its own from 18 on (contype n); an
 * index that is not valid is not dumped; range types have more constructors from 14 on (pg_depend: i).
 */
const QUERIES = {
  constraints: `SELECT FROM pg_constraint c WHERE contype IN ('p', 'u', 'f', 'c', 'x') AND conparentid = 0
    AND ${own('connamespace')} AND (conrelid = 0 OR ${ownTable('conrelid')}) AND NOT ${member('pg_type', 'c.contypid')}`,
  indexes: `SELECT FROM pg_index i JOIN pg_class t ON t.oid = indrelid
    WHERE (indisvalid OR t.relkind = 'p') AND indisready AND ${ownTable('indrelid')}`,
  views: `SELECT FROM pg_class c WHERE relkind IN ('v', 'm') AND ${ownTable('c.oid')}`,
  sequences: `SELECT FROM pg_class c WHERE relkind = 'S' AND ${ownTable('c.oid')}`,
  functions: `SELECT FROM pg_proc p WHERE ${own('pronamespace')} AND NOT EXISTS (SELECT FROM pg_depend m
    WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid AND m.deptype IN ('e', 'i'))`,
  triggers: `SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0 AND ${ownTable('tgrelid')}`,
  policies: `SELECT FROM pg_policy WHERE ${ownTable('polrelid')}`,
} as const;

/** Counts the objects of the session's own database, as its transaction sees them. */
export async function readObjectCounts(session: Session): Promise<ObjectCounts> {
  const columns = Object.entries(QUERIES).map(([kind, query]) => `(SELECT count(*)::int FROM (${query}) q) AS ${kind}`);
  return session.one<ObjectCounts>(`SELECT ${columns.join(',\n')}`);
}

/**
 * What a restored database lacks, or has more than was recorded, in words. Nothing where the snapshot has no counts, or
 * where TimescaleDB keeps objects of its own beside those of people.
 *
 * @param fewer how many of a kind may be missing, for a known reason
 */
export function countDifferences(
  recorded: { objects?: ObjectCounts; extensions: readonly { name: string }[] },
  restored: ObjectCounts,
  fewer: ReadonlyMap<keyof ObjectCounts, number> = new Map(),
): string[] {
  const { objects, extensions } = recorded;
  if (objects === undefined || extensions.some(({ name }) => name === 'timescaledb')) return [];
  return (Object.keys(objects) as (keyof ObjectCounts)[]).flatMap((kind) => {
    const lacking = objects[kind] - restored[kind];
    const expected = lacking === 0 || (lacking > 0 && lacking <= (fewer.get(kind) ?? 0));
    return expected ? [] : [`it has ${restored[kind]} ${kind}, recorded were ${objects[kind]}`];
  });
}
