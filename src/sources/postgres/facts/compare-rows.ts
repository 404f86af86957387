import { plural } from '../../../report/format.ts';

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
 * Compares row counts with the record, table by table. If rows may move between partitions, compares the total of the
 * topmost table. That total is not known if the count of one of its partitions is an estimate.
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
