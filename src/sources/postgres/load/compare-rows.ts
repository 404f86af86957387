import { plural } from '../../../report/format.ts';
import type { ArchiveEntry } from '../archive/archive.ts';

/** A table of a restored database, with its counted and its recorded rows. */
interface CountedTable {
  schema: string;
  name: string;
  rows: number;
  recorded: number;
  /** false if the record is an estimate; `rows` is not counted then */
  exact: boolean;
}

/** Returns a key for a table that is unique whatever characters its names hold. */
export function tableKey({ schema, name }: { schema: string; name: string }): string {
  return JSON.stringify([schema, name]);
}

/**
 * Returns the topmost table through which a dump loads the rows of a partition, as the dump writes its name; undefined if it loads
 * them directly. `pg_dump` loads through that table if a hash depends on OIDs, for example the hash of an enum (forcePartitionRootLoad
 * in pg_dump.c). Such rows may correctly end up in other partitions.
 */
export function rootOfLoad({ kind, definition }: ArchiveEntry): string | undefined {
  return kind === 'TABLE DATA' ? /^-- load via partition root ([^\n]+)/.exec(definition)?.[1] : undefined;
}

/** Returns the partitions whose rows a dump loads through the topmost table, by {@link tableKey}. */
export function loadedThroughRoot(entries: readonly ArchiveEntry[]): Set<string> {
  return new Set(
    entries
      .filter((entry) => rootOfLoad(entry) !== undefined)
      .map(({ schema, tag }) => tableKey({ schema, name: tag })),
  );
}

/** The result of a comparison of rows. */
export interface RowsCompared {
  /** as messages */
  differences: string[];
  /** rows that were compared and are equal */
  rows: number;
  /** tables that could not be compared */
  uncompared: number;
}

/**
 * Compares row counts with the record, table by table. If rows may move between partitions, compares the total of the topmost table.
 * That total is not known if the count of one of its partitions is an estimate.
 *
 * @param roots the topmost partitioned table of each partition, by {@link tableKey}
 * @param moving partitions whose rows may be in other partitions now
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
      .map(({ name, rows, recorded }) => `${name} has ${plural(rows, 'row')}, the snapshot has ${recorded}`),
    rows: known.reduce((sum, { rows }) => sum + rows, 0),
    uncompared: [...groups.values()].reduce((sum, { exact, tables: n }) => sum + (exact ? 0 : n), 0),
  };
}
