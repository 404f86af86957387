import { expect, test } from 'vitest';
import { comparison } from '../../../../src/sources/postgres/load/compare-database.ts';

test('what a restore compared is told apart from what it could not', () => {
  expect(comparison({ tables: 61, rows: 1_523_118, uncompared: 0, reasons: [] })).toBe(
    '61 tables, 1,523,118 rows compared and equal',
  );
  const reasons = ['1 above 1 GiB', '1 locked when the snapshot was made'];
  expect(comparison({ tables: 3, rows: 1, uncompared: 2, reasons })).toBe(
    '3 tables, 1 row compared and equal; the rows of 2 tables are not compared: 1 above 1 GiB, 1 locked when the snapshot was made',
  );
});
