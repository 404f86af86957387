import { expect, test } from 'vitest';
import type { RestoreReport } from '../../src/report/events.ts';
import { ALL_SOURCES, restoredSummary, restoreLines } from '../../src/report/restore-text.ts';

const report: RestoreReport = {
  ...{ id: '20261120T030000Z-aaaaaa', project: 'shop', verb: 'restore', source: 'web.media', target: 'web.media' },
  ...{ snapshot: 's', start: '2026-11-20T03:00:00Z', end: '2026-11-20T03:00:20Z', status: 'ok' },
  ...{ restored: [], steps: [], checks: [], canRollBack: false, warnings: [] },
};

test.each([
  [{ stoppedMs: 10_300, withoutDataMs: 2 }, ['  services were stopped for 10.3 s; the swap of the data took 2 ms']],
  [{ stoppedMs: 900 }, ['  services were stopped for 900 ms']],
  [{ withoutDataMs: 2 }, ['  the swap of the data took 2 ms']],
  [{}, []],
])('the downtime of services and of the data are two numbers: %j', (times, lines) => {
  expect(restoreLines({ ...report, ...times })).toEqual(lines);
});

test('a restore that cannot be rolled back says how to undo it', () => {
  expect(restoreLines({ ...report, undo: 'DROP TABLE "public"."orders" in database shop' })).toEqual([
    '  it replaced nothing, so `lifeboat rollback` cannot undo it; to undo it: DROP TABLE "public"."orders" in database shop',
  ]);
});

const all = { ...report, source: ALL_SOURCES, target: ALL_SOURCES };
const many = (of: (n: number) => string, more: object = {}) =>
  Array.from({ length: 7 }, (_, n) => ({ target: of(n), ...more }));
const failedOf = (target: string, hint?: string) => ({
  target,
  error: { code: 'TREE_TARGET_REFUSED' as const, message: 'refused', ...(hint === undefined ? {} : { hint }) },
});

test.each([
  ['nothing', { restored: [] }, 'nothing: everything is already there'],
  ['a few names', { restored: [{ target: 'app' }, { target: 'blog' }] }, 'app, blog'],
  ['one long name', { restored: [{ target: 'x'.repeat(200) }] }, 'x'.repeat(200)],
  ['many sources', { ...all, restored: many((n) => `web.media${n}: /srv/data/media${n}`) }, '7 sources'],
  ['many databases of a source', { ...all, restored: many((n) => `db.postgres: database${n}`) }, '1 source'],
  [
    'some of many sources',
    {
      ...all,
      restored: many((n) => `web.media${n}: /srv/data/media${n}`),
      failed: [failedOf('web.x'), failedOf('web.media1: y')],
    },
    '7 of 8 sources',
  ],
  [
    'many databases',
    { source: 'db.postgres', restored: many((n) => `database_of_customer_${n}`, { tables: 1 }) },
    '7 databases of db.postgres',
  ],
  [
    'many tables',
    { source: 'db.postgres', restored: many((n) => `app: public.orders_of_${n}`) },
    '7 tables of db.postgres',
  ],
])('the headline of a restore stays short: %s', (_, more, text) => {
  expect(restoredSummary({ ...report, ...more })).toBe(text);
});

test('a hint appears once, however many sources have it, and although the error repeats it', () => {
  const failed = [failedOf('web.a', 'Do this.'), failedOf('web.b', 'Do this.'), failedOf('web.c', 'Do that.')];
  const error = {
    code: 'TREE_TARGET_REFUSED' as const,
    message: 'refused',
    hint: 'Do this. `lifeboat restore` helps.',
  };
  expect(restoreLines({ ...all, status: 'partial', failed, error })).toEqual([
    '  not restored: web.a: refused (TREE_TARGET_REFUSED)',
    '    hint: Do this.',
    '  not restored: web.b: refused (TREE_TARGET_REFUSED)',
    '  not restored: web.c: refused (TREE_TARGET_REFUSED)',
    '    hint: Do that.',
    '  hint: `lifeboat restore` helps.',
  ]);
  const same = { ...error, hint: 'Do this.' };
  expect(
    restoreLines({ ...all, status: 'partial', failed, error: same })
      .join('\n')
      .match(/Do this/g),
  ).toHaveLength(1);
});
