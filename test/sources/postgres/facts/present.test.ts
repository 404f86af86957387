import { expect, test } from 'vitest';
import type { TableFacts } from '../../../../src/sources/postgres/facts/facts.ts';
import { compareRows } from '../../../../src/sources/postgres/facts/present.ts';

const table = (name: string, rows: number, more: Partial<TableFacts> = {}) =>
  ({ schema: 'public', name, rows, exact: true, ...more }) as TableFacts;

test('the losses of one table are not hidden behind the gains of another', () => {
  const recorded = [table('orders', 100), table('sessions', 500), table('same', 7), table('gone', 3)];
  const now = [table('orders', 512), table('sessions', 88), table('same', 7), table('later', 5)];
  expect(compareRows(now, { tables: recorded })).toEqual({
    more: 417,
    fewer: 415,
    newTables: ['public.later'],
    changed: ['rows: public.orders has 412 more'],
  });
});

test('tables that were not counted both times are not compared', () => {
  const recorded = [table('large', 100, { exact: false }), table('left', 0, { data: false }), table('ext', 1)];
  const now = [table('large', 900), table('left', 9), table('ext', 1, { extension: 'x' } as Partial<TableFacts>)];
  expect(compareRows(now, { tables: recorded })).toMatchObject({ more: 0, changed: [] });
});

test('only the first of many tables are named', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  const { changed } = compareRows(
    names.map((name) => table(name, 2)),
    { tables: names.map((name) => table(name, 1)) },
  );
  expect(changed).toEqual([
    `rows: ${['a', 'b', 'c', 'd', 'e'].map((name) => `public.${name} has 1 more`).join(', ')}, 2 more tables too`,
  ]);
});
