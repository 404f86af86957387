import { expect, test } from 'vitest';
import { countRows } from '../../src/sources/postgres/count-rows.ts';
import type { TableFacts } from '../../src/sources/postgres/facts.ts';
import type { Session } from '../../src/sources/postgres/session.ts';

const MIB = 1024 ** 2;
const tables = (count: number, bytes: number): TableFacts[] =>
  Array.from({ length: count }, (_, i) => ({ schema: 's', name: `t${i}`, owner: 'o', rows: 0, exact: true, bytes }));

/** How many tables each statement counted; the table `t<n>` has n rows. */
async function statements(all: TableFacts[]): Promise<number[]> {
  const sizes: number[] = [];
  const session = {
    async run() {},
    async all(sql: string) {
      const names = [...sql.matchAll(/"t(\d+)"/g)];
      sizes.push(names.length);
      return names.map(([, n], i) => ({ i, n }));
    },
  };
  await countRows(session as unknown as Session, all);
  expect(all.map(({ rows }) => rows)).toEqual(all.map(({ name }) => Number(name.slice(1))));
  return sizes;
}

test('large tables are counted by a statement each, so that each end shows that the count goes on', async () => {
  expect(await statements(tables(5, 1024 * MIB))).toEqual([1, 1, 1, 1, 1]);
  expect(await statements(tables(5, 100 * MIB))).toEqual([2, 2, 1]);
});

test('small tables share a statement, fifty at most', async () => {
  expect(await statements(tables(120, 8192))).toEqual([50, 50, 20]);
  expect(await statements([])).toEqual([]);
});
