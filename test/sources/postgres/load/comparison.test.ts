import { expect, test } from 'vitest';
import { comparison } from '../../../../src/sources/postgres/load/compare-database.ts';

const NONE = { refused: [], reasons: [], missing: [], lacking: [], empty: [] };
const WHOLE = { rows: 1_523_118, compared: 61, uncompared: 0, ...NONE };

test('the text says what was compared, and what could not be compared', () => {
  expect(comparison({ tables: 61, ...WHOLE })).toBe('61 tables, 1,523,118 rows compared and equal');
  const reasons = ['1 above 1 GiB', '1 locked when the snapshot was made'];
  expect(comparison({ ...WHOLE, tables: 3, rows: 1, uncompared: 2, reasons })).toBe(
    '3 tables, 1 row compared and equal; the rows of 2 tables are not compared: 1 above 1 GiB, 1 locked when the snapshot was made',
  );
});

test('the text says how many tables and rows are missing, and in which tables', () => {
  const lacking = [
    { name: 'public.b', rows: 1200, exact: true },
    { name: 'public.c', rows: 34, exact: true },
  ];
  expect(comparison({ tables: 60, ...WHOLE, missing: ['public.a'], lacking })).toBe(
    '58 tables, 1,523,118 rows compared and equal; 1 table missing: public.a; 1,234 rows missing in 2 tables: public.b, public.c',
  );
  expect(comparison({ tables: 1, ...WHOLE, rows: 0, lacking: [{ name: 's.t', rows: 9, exact: false }] })).toBe(
    '0 tables, 0 rows compared and equal; about 9 rows missing in 1 table: s.t',
  );
  const missing = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name) => `s.${name}`);
  expect(comparison({ tables: 0, ...WHOLE, missing })).toContain(
    '7 tables missing: s.a, s.b, s.c, s.d, s.e and 2 more',
  );
});
