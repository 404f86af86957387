import { member, own, ownTable } from '../definitions/own.ts';
import type { Session } from '../server/session.ts';

/** The number of objects of each kind in a database, without those of extensions and of the system. */
export type ObjectCounts = Record<keyof typeof QUERIES, number>;

/**
 * The queries return the same counts in every version of Postgres from 13 on. They leave out objects that differ by
 * version: constraints and triggers that a partition inherits, NOT NULL constraints (contype n, from 18 on), and the
 * constructors of range types (more from 14 on; pg_depend: i). They also leave out invalid indexes, which are not
 * dumped.
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

/** Counts the objects of the session's database, as its transaction sees them. */
export async function readObjectCounts(session: Session): Promise<ObjectCounts> {
  const columns = Object.entries(QUERIES).map(([kind, query]) => `(SELECT count(*)::int FROM (${query}) q) AS ${kind}`);
  return session.one<ObjectCounts>(`SELECT ${columns.join(',\n')}`);
}

/**
 * Describes where the counts of a restored database differ from the recorded ones. Returns an empty list if the
 * snapshot has no counts, or if the database uses TimescaleDB, which creates objects in the user's schemas.
 *
 * @param fewer how many objects of a kind may be missing for a known reason
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
    return expected ? [] : [`it has ${restored[kind]} ${kind}, the snapshot has ${objects[kind]}`];
  });
}
