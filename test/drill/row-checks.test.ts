import { expect, test } from 'vitest';
import { rowChecks } from '../../src/drill/checks/row-checks.ts';

const ROWS = { rows: 12, compared: 2, uncompared: 0, reasons: [], refused: [], lost: [] };

test('the rows of a restore are a check, with numbers that say why it failed only if they differ', () => {
  expect(rowChecks({ name: 'app' }, ROWS)).toEqual([
    { name: 'rows', of: 'app', result: 'ok', detail: '2 tables', expected: 12, found: 12 },
  ]);
  const refused = ['public.a cannot be counted now: x'];
  expect(rowChecks({ name: 'app' }, { ...ROWS, uncompared: 1, refused })).toEqual([
    { name: 'rows', of: 'app', result: 'failed', detail: '2 tables', differences: refused },
  ]);
});

test('a table without the rows that the dump has fails; one that is not counted is skipped', () => {
  const lost = ['public.large is empty, although the dump has rows of it'];
  expect(rowChecks({ name: 'app' }, { ...ROWS, uncompared: 1, reasons: ['1 above 1 GiB'], lost })).toEqual([
    { name: 'rows', of: 'app', result: 'failed', detail: '2 tables', differences: lost },
    { name: 'rows that were not counted', of: 'app', result: 'skipped', detail: '1 table: 1 above 1 GiB' },
  ]);
});
