import { plural } from '../../../report/format.ts';
import type { ArchiveEntry } from '../archive/archive.ts';

/** One table of a restored database: its rows as counted, and as recorded. */
interface CountedTable {
  schema: string;
  name: string;
  rows: number;
  recorded: number;
  /** false when the record is an estimate: then `rows` was not counted */
  exact: boolean;
}

/** A table's identity, whatever characters its names hold. */
export function tableKey({ schema, name }: { schema: string; name: string }): string {
  return JSON.stringify([schema, name]);
}

/**
 * The topmost table through which a dump loads the rows of a partition, as the dump writes its name; undefined where it loads
 * them directly. `pg_dump` takes that way where a hash depends on OIDs, as that of an enum does (forcePartitionRootLoad in
 * pg_dump.c): the rows may rightly land in other partitions than they came from.
 */
export function rootOfLoad({ kind, definition }: ArchiveEntry): string | undefined {
  return kind === 'TABLE DATA' ? /^-- load via partition root ([^\n]+)/.exec(definition)?.[1] : undefined;
}

/** The partitions whose rows a dump loads through the topmost table, as {@link tableKey} names them. */
export function loadedThroughRoot(entries: readonly ArchiveEntry[]): Set<string> {
  return new Set(
    entries
      .filter((entry) => rootOfLoad(entry) !== undefined)
      .map(({ schema, tag }) => tableKey({ schema, name: tag })),
  );
}

/** What a comparison of rows came to. */
export interface RowsCompared {
  /** in words */
  differences: string[];
  /** compared and found equal */
  rows: number;
  /** tables that could not be compared */
  uncompared: number;
}

/**
 * Compares row counts with their record, table by table. Where rows may move between partitions, the sum over the topmost
 * table decides; it is not known where the count of one of its partitions is an estimate.
 *
 * @param roots the topmost partitioned table of each partition, by {@link tableKey}
 * @param moving partitions whose rows may be in other ones now
 */
export function compareRows(
  tables: readonly CountedTable[],
  roots: ReadonlyMap<string, string>,
  moving: ReadonlySet<string>,
): RowsCompared {
  const movingRoots = new Set([...moving].map((key) => roots.get(key)));
  const groups = new Map<string, CountedTable & { tables: number }>();
  for (const table of tables) {
    const root = roots.get(tableKey(table));
    const together = root !== undefined && movingRoots.has(root);
    const name = together ? `${root} with its partitions` : `${table.schema}.${table.name}`;
    const key = together ? `root ${root}` : tableKey(table);
    const group = groups.get(key) ?? { ...table, name, rows: 0, recorded: 0, exact: true, tables: 0 };
    group.rows += table.rows;
    group.recorded += table.recorded;
    group.exact &&= table.exact;
    group.tables++;
    groups.set(key, group);
  }
  const known = [...groups.values()].filter(({ exact }) => exact);
  return {
    differences: known
      .filter(({ rows, recorded }) => rows !== recorded)
      .map(({ name, rows, recorded }) => `${name} has ${plural(rows, 'row')}, recorded were ${recorded}`),
    rows: known.reduce((sum, { rows }) => sum + rows, 0),
    uncompared: [...groups.values()].reduce((sum, { exact, tables: n }) => sum + (exact ? 0 : n), 0),
  };
}
