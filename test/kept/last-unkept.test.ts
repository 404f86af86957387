import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { describeDatabases, replacedText } from '../../src/kept/describe.ts';
import { forgetLast, noteLast, refuseIfOlder, refuseOlder } from '../../src/kept/last-unkept.ts';
import type { RestoreReport } from '../../src/report/events.ts';
import { openState, type Rollback, type State } from '../../src/run/state.ts';
import type { Tools } from '../../src/sources/postgres/server/tools.ts';

const older = '20261130T011300Z-aaaaaa';
const table = '20261130T011800Z-bbbbbb';
const undo = 'DROP TABLE "public"."orders" in database shop';

let directory: string;
let state: State;
beforeEach(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-last-'));
  state = openState(directory);
  const at = '2026-11-30T01:13:00Z';
  await state.saveRollbacks([{ id: older, at, source: 'db.postgres', snapshot: 's', inUse: 'restored' }]);
});
afterEach(() => rmSync(directory, { recursive: true }));

const refuse = (id?: string, meant: Parameters<typeof refuseOlder>[2] = {}) =>
  refuseOlder({ state, now: () => new Date('2026-11-30T01:29:00Z') }, id === undefined ? {} : { id }, meant);
const done = (more: Partial<RestoreReport> = {}) =>
  ({
    ...{ id: table, source: 'db.postgres', start: '2026-11-30T01:18:00Z', canRollBack: false, undo },
    ...{ restored: [{ target: 'shop: public.orders' }], ...more },
  }) as RestoreReport;

test('a rollback without an id does not undo an older restore than the last one', async () => {
  await refuse();
  await noteLast(state, done());
  await expect(refuse()).rejects.toMatchObject({
    code: 'NOT_CONFIRMED',
    message: `the last restore, ${table} of db.postgres (11m ago), cannot be rolled back: it replaced nothing`,
    hint: `To undo it: ${undo}. \`lifeboat rollback ${older}\` instead undoes restore ${older} of db.postgres, made 16m ago, and takes everything written since then out of use. Nothing was changed.`,
  });
  await expect(refuse(undefined, { group: 'g' })).rejects.toMatchObject({
    hint: expect.stringContaining('`lifeboat rollback g`'),
  });
  // With an id, the user means that restore.
  await refuse(older);
});

test('a command without an id does not drop the old data of an older restore than the last one', async () => {
  await refuse(undefined, { forgets: true });
  await noteLast(state, done());
  await expect(refuse(undefined, { forgets: true })).rejects.toMatchObject({
    code: 'NOT_CONFIRMED',
    message: `the last restore, ${table} of db.postgres (11m ago), put no data aside`,
    hint: `\`lifeboat rollback ${older} --forget\` permanently drops the data that restore ${older} of db.postgres, made 16m ago, put aside. Nothing was changed.`,
  });
  await refuse(older, { forgets: true });
});

test('a newer restore that turns out to be cut off does not hide the last one', async () => {
  await noteLast(state, done());
  const [first] = await state.rollbacks();
  await state.saveRollbacks([first!, { ...first!, id: '20261130T012500Z-cccccc' }]);
  await refuse();
  const deps = { state, now: () => new Date('2026-11-30T01:29:00Z') };
  await expect(refuseIfOlder(deps, {}, first!)).rejects.toMatchObject({ code: 'NOT_CONFIRMED' });
  await refuseIfOlder(deps, { id: older }, first!);
});

test('a rollback, or a later restore that can be rolled back, is the last one again', async () => {
  await noteLast(state, done());
  await noteLast(state, done({ id: 'c', canRollBack: true }));
  await refuse();
  await noteLast(state, done());
  await forgetLast(state);
  await refuse();
});

test('a restore that restored nothing is not the last one', async () => {
  await noteLast(state, done({ restored: [] }));
  await refuse();
});

test('what a rollback replaces is shown with its content now and afterwards', () => {
  const record = { inUse: 'restored' } as Rollback;
  const described = [
    { name: 'shop', aside: 'shop__before_aaaaaa', present: '8 MB, 2 tables, 9 rows', old: '7 MB' },
    { name: 'blog', aside: 'blog__before_aaaaaa' },
  ];
  expect(replacedText(record, described)).toEqual([
    { name: 'shop', detail: '8 MB, 2 tables, 9 rows: by the data from before the restore: 7 MB' },
    { name: 'blog', detail: 'by the data from before the restore' },
  ]);
});

test('a database whose rows cannot be counted in time is shown with its size', async () => {
  const control = { all: async () => [{ name: 'shop', oid: '1', bytes: '2048' }] };
  const session = () => Promise.reject(new Error('too slow'));
  const tools = { control: async () => control, session } as unknown as Tools;
  const record = { databases: [{ name: 'shop', before: 'shop__before_aaaaaa' }] } as Rollback;
  expect(await describeDatabases(tools, record, new AbortController().signal)).toEqual([
    { name: 'shop', aside: 'shop__before_aaaaaa', present: '2.0 KiB' },
  ]);
});
