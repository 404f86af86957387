/** How many tables one counting statement covers at most. */
const MAX_TABLES = 50;

/** How much one counting statement reads, unless a single table is larger. 256 MiB. */
const MAX_BYTES = 256 * 1024 ** 2;

/**
 * Tables in groups, each to be counted by one statement. Small ones share a statement, since each costs a round trip. What the
 * groups may hold is bounded: the server's sessions look the same from outside until a statement ends, and one that goes on
 * for long is taken for one that hangs.
 */
export function countBatches<T extends { bytes: number }>(tables: readonly T[]): T[][] {
  const batches: T[][] = [];
  let held = 0;
  for (const table of tables) {
    const last = batches.at(-1);
    if (last && last.length < MAX_TABLES && held + table.bytes <= MAX_BYTES) {
      last.push(table);
      held += table.bytes;
    } else {
      batches.push([table]);
      held = table.bytes;
    }
  }
  return batches;
}
