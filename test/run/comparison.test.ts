import { expect, test } from 'vitest';
import { comparison } from '../../src/restore-database.ts';

test('what a restore compared is told apart from what it could not', () => {
  expect(comparison({ tables: 61, rows: 1_523_118, estimated: 0 })).toBe(
    '61 tables, 1,523,118 rows compared and equal',
  );
  expect(comparison({ tables: 3, rows: 1, estimated: 1 })).toBe(
    '3 tables, 1 row compared and equal; the rows of 1 table above 1 GiB or changed meanwhile were only estimated when the snapshot was made, and are not compared',
  );
});
