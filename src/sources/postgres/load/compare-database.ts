import { LifeboatError } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import { compareRows, type RowsCompared, tableKey } from '../facts/compare-rows.ts';
import { countRows } from '../facts/count-rows.ts';
import { type EmptyTable, readEmptyTables } from '../facts/empty-tables.ts';
import type { DatabaseFacts, TableFacts } from '../facts/facts.ts';
import { countDifferences, type ObjectCounts, readObjectCounts } from '../facts/object-counts.ts';
import { uncountedText } from '../facts/uncounted.ts';
import type { Session } from '../server/session.ts';
import { serverWords } from '../server/sql-state.ts';
import { ownSearchPath } from './lead-functions.ts';

/** The extent of a comparison. */
export interface Compared {
  /** rows compared and found equal */
  rows: number;
  /** tables whose rows are compared */
  compared: number;
  /** tables whose rows are not compared */
  uncompared: number;
  /** tables among these that were counted for the record, and that the server refuses to count now, with its words */
  refused: string[];
  /** the reasons: `2 above 1 GiB` */
  reasons: string[];
  /** tables that were left out, `schema.name` */
  missing: string[];
  /** tables whose rows were left out in part or entirely */
  lacking: LackingTable[];
  /** large tables that are empty, and had rows by the estimate of the record: only the dump tells whether they had */
  empty: EmptyTable[];
}

/** A table that has fewer rows than recorded. */
interface LackingTable {
  /** `schema.name` */
  name: string;
  /** how many rows it lacks */
  rows: number;
  /** false where the record is an estimate */
  exact: boolean;
}

/** The differences from the record that a correct restore may have. Tables have the names of {@link tableKey}. */
export interface Allowance {
  /** partitions whose rows may be in other partitions of the same table */
  moving?: ReadonlySet<string>;
  /** extensions that are missing */
  extensions?: ReadonlySet<string>;
  /** tables that are missing, or lack rows */
  tables?: ReadonlySet<string>;
  /** how many objects of a kind may be missing */
  fewer?: ReadonlyMap<keyof ObjectCounts, number>;
  /** large objects are missing */
  largeObjects?: boolean;
}

/** PG_RESTORE_FAILED for a restored database that differs from the record. */
export class DifferenceError extends LifeboatError {
  /** in words */
  readonly differences: readonly string[];

  constructor(differences: readonly string[]) {
    super(
      'PG_RESTORE_FAILED',
      `the restored database differs from the record: ${differences.slice(0, NAMED).join('; ')}`,
      {
        hint: 'The restored copy was dropped, and nothing else was changed. Try an older snapshot, and report this.',
      },
    );
    this.differences = differences;
  }
}

/**
 * Compares a restored database with the record: row counts, extensions, large objects, and the numbers of constraints,
 * indexes and other objects. Only the differences in `allowance` are accepted.
 *
 * @throws {@link DifferenceError} on any other difference
 */
export async function compareDatabase(
  session: Session,
  recorded: DatabaseFacts,
  allowance: Allowance = {},
): Promise<Compared> {
  const differences: string[] = [];
  const extensions = await session.all<{ name: string }>('SELECT extname AS name FROM pg_extension');
  for (const { name } of recorded.extensions) {
    if (!allowance.extensions?.has(name) && !extensions.some((extension) => extension.name === name))
      differences.push(`extension ${name} is missing`);
  }
  const { objects } = await session.one<{ objects: string }>(
    'SELECT count(*)::text AS objects FROM pg_largeobject_metadata',
  );
  if (Number(objects) !== recorded.largeObjects && !allowance.largeObjects) {
    differences.push(`it has ${plural(Number(objects), 'large object')}, the snapshot has ${recorded.largeObjects}`);
  }
  const tables = await compareTables(session, recorded, allowance);
  differences.push(...tables.differences);
  differences.push(...countDifferences(recorded, await readObjectCounts(session), allowance.fewer));
  if (differences.length > 0) {
    throw new DifferenceError(differences);
  }
  const { differences: _, ...compared } = tables;
  return compared;
}

async function compareTables(
  session: Session,
  recorded: DatabaseFacts,
  { moving = new Set(), tables: lacking }: Allowance,
): Promise<Compared & Pick<RowsCompared, 'differences'>> {
  const dumped = recorded.tables.filter((table) => table.extension === undefined && table.data !== false);
  const present = dumped.filter((table) => !lacking?.has(tableKey(table)) || moving.has(tableKey(table)));
  // If a partition lacks rows, the total of its partitioned table is not known either.
  const restored: TableFacts[] = present.map((table) => {
    return { ...table, rows: 0, exact: table.exact && !lacking?.has(tableKey(table)) };
  });
  const why = restored.flatMap((table) => {
    if (table.exact) return [];
    return lacking?.has(tableKey(table)) ? 'that lack rows' : uncountedText(table);
  });
  const exact = restored.filter((table) => table.exact);
  const whole = (table: TableFacts) => !lacking?.has(tableKey(table)) && !moving.has(tableKey(table));
  const uncounted = present.filter((table) => !table.exact && whole(table));
  await session.run('BEGIN READ ONLY');
  // The working database gets its settings later.
  const refused = await countRows(session, exact, { searchPath: ownSearchPath(recorded) });
  await session.run('ROLLBACK');
  why.push(...refused.map(({ error }) => `that the server refuses to count now (${serverWords(error)})`));
  const counted = restored.map(({ schema, name, rows, exact }, i) => {
    return { schema, name, rows, exact, recorded: (present[i] as TableFacts).rows };
  });
  const compared = compareRows(counted, moving.size > 0 ? await readPartitionRoots(session) : new Map(), moving);
  // The server refuses to count a missing table, but a missing table is a difference.
  const there = await readTableNames(session);
  const gone = present.filter((table) => !lacking?.has(tableKey(table)) && !there.has(tableKey(table)));
  const differences = [
    ...gone.map(({ schema, name }) => `table ${schema}.${name} is missing`),
    ...compared.differences,
  ];
  const leftOut = recorded.tables.filter((table) => table.extension === undefined && lacking?.has(tableKey(table)));
  const left = leftOut.filter((table) => there.has(tableKey(table)) && !moving.has(tableKey(table)));
  return {
    ...{ rows: compared.rows, compared: counted.length - compared.uncompared, uncompared: compared.uncompared },
    ...{ differences, reasons: sumUp(why, compared.uncompared) },
    refused: refused
      .filter(({ table }) => there.has(tableKey(table)))
      .map(({ table, error }) => `${shownName(table)} cannot be counted now: ${serverWords(error)}`),
    missing: [...leftOut, ...recorded.tables.filter(({ extension }) => extension !== undefined)]
      .filter((table) => !there.has(tableKey(table)))
      .map(shownName),
    lacking: await countLacking(session, left),
    empty: await readEmptyTables(
      session,
      uncounted.filter((table) => there.has(tableKey(table))),
    ),
  };
}

function shownName({ schema, name }: TableFacts): string {
  return `${schema}.${name}`;
}

async function countLacking(session: Session, tables: readonly TableFacts[]): Promise<LackingTable[]> {
  const now = tables.map((table) => ({ ...table, rows: 0, exact: true }));
  await session.run('BEGIN READ ONLY');
  await countRows(session, now);
  await session.run('ROLLBACK');
  return tables.flatMap((table, i) => {
    const { rows, exact } = now[i] as TableFacts;
    const lacks = table.rows - rows;
    return lacks > 0 ? [{ name: shownName(table), rows: lacks, exact: table.exact && exact }] : [];
  });
}

/** Counts the tables of each reason. If one partition cannot be compared, its whole partitioned table cannot. */
function sumUp(why: readonly string[], uncompared: number): string[] {
  const counts = new Map<string, number>();
  for (const reason of why) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const others = uncompared - why.length;
  if (others > 0) counts.set('in one partitioned table with such', others);
  return [...counts].map(([reason, n]) => `${n} ${reason}`);
}

async function readTableNames(session: Session): Promise<Set<string>> {
  const rows = await session.all<{ schema: string; name: string }>(
    `SELECT nspname AS schema, relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r'`,
  );
  return new Set(rows.map(tableKey));
}

/** Reads the topmost partitioned table of each partition, by {@link tableKey}. */
async function readPartitionRoots(session: Session): Promise<Map<string, string>> {
  const rows = await session.all<Record<'schema' | 'name' | 'rootSchema' | 'rootName', string>>(
    `SELECT n.nspname AS schema, c.relname AS name, rn.nspname AS "rootSchema", r.relname AS "rootName"
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_class r ON r.oid = pg_partition_root(c.oid) JOIN pg_namespace rn ON rn.oid = r.relnamespace
      WHERE c.relispartition AND c.relkind = 'r'`,
  );
  return new Map(rows.map((row) => [tableKey(row), `${row.rootSchema}.${row.rootName}`]));
}

/** The most tables or differences that a text names. */
const NAMED = 5;

/**
 * Says what was compared with the record, what could not be compared, and what is missing:
 * `61 tables, 1,523,118 rows compared and equal`.
 *
 * @param tables how many tables the database has
 */
export function comparison({
  tables,
  rows,
  uncompared,
  reasons,
  missing,
  lacking,
}: Compared & { tables: number }): string {
  const parts = [`${plural(tables - lacking.length, 'table')}, ${plural(rows, 'row')} compared and equal`];
  if (missing.length > 0) parts.push(`${plural(missing.length, 'table')} missing: ${someOf(missing)}`);
  if (lacking.length > 0) {
    const lost = lacking.reduce((sum, table) => sum + table.rows, 0);
    const about = lacking.every(({ exact }) => exact) ? '' : 'about ';
    const names = lacking.map(({ name }) => name);
    parts.push(`${about}${plural(lost, 'row')} missing in ${plural(lacking.length, 'table')}: ${someOf(names)}`);
  }
  if (uncompared > 0) parts.push(`the rows of ${plural(uncompared, 'table')} are not compared: ${reasons.join(', ')}`);
  return parts.join('; ');
}

function someOf(names: readonly string[]): string {
  const more = names.length - NAMED;
  return `${names.slice(0, NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
