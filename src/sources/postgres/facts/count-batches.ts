/** The most tables that one counting statement covers. */
const MAX_TABLES = 50;

/** The most bytes that one counting statement reads, unless a single table is larger: 256 MiB. */
const MAX_BYTES = 256 * 1024 ** 2;

/**
 * Groups tables, one group for each counting statement. Small tables share a statement, because each statement costs a
 * round trip. The groups are bounded: until a statement ends, a session shows no change from outside, and a long
 * statement would count as a hanging one.
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
