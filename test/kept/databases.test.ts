import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { asFound, keptDatabases, type Present, refreshKept } from '../../src/kept/databases.ts';
import { listKept } from '../../src/kept/list.ts';
import type { PostgresSource, VolumeSource } from '../../src/plan/model.ts';
import { openState, type Rollback, type State } from '../../src/run/state.ts';
import { workingName } from '../../src/sources/postgres/load/swap.ts';
import type { Tools } from '../../src/sources/postgres/server/tools.ts';

const one: Rollback = {
  id: '20261120T031500Z-00ab12',
  at: '2026-11-20T03:15:00Z',
  source: 'db.postgres',
  snapshot: '20261120T030000Z-4f1c9a',
  inUse: 'restored',
  databases: [{ name: 'app', before: 'app__before_00ab12', oid: '5' }],
};
const volume: Rollback = { ...one, id: 'v', source: 'web.media', databases: [], volume: { area: 'x' } };
delete (volume as Partial<Rollback>).databases;

const server = (names: Record<string, string>): Present =>
  new Map(Object.entries(names).map(([name, oid]) => [name, { oid, bytes: 7 }]));

let directory: string;
let state: State;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-kept-'));
  state = openState(directory);
});
afterEach(() => rmSync(directory, { recursive: true }));

test('the databases show which data is in use, not the records', () => {
  expect(asFound(one, server({ app: '9', app__before_00ab12: '5' }))?.inUse).toBe('restored');
  expect(asFound(one, server({ app: '5', app__before_00ab12: '9' }))?.inUse).toBe('before');
  expect(asFound({ ...one, inUse: 'before' }, server({ app__before_00ab12: '5' }))?.inUse).toBe('restored');
});

test('of several databases that are swapped one by one, only those that were put aside are recorded', () => {
  const next = { name: 'shop', before: 'shop__before_00ab12', oid: '6' };
  const both = { ...one, databases: [...(one.databases ?? []), next] };
  const found = asFound(both, server({ app: '9', app__before_00ab12: '5', shop: '6' }));
  expect(found).toEqual(one);
  // Somebody dropped the old database: the rollback refuses that later, and the record stays.
  expect(asFound(both, server({ app: '9', app__before_00ab12: '5', shop: '10' }))).toEqual(both);
});

test('records of data that was never put aside or was dropped are removed; other sources and volumes are unchanged', async () => {
  const other = { ...one, id: 'o', source: 'other.postgres' };
  const turned = { ...one, id: 't', databases: [{ name: 'b', before: 'b__before_1', oid: '1' }] };
  await state.saveRollbacks([one, volume, other, turned]);
  const asked: string[][] = [];
  const found = await refreshKept(state, 'db.postgres', async (names) => {
    asked.push(names);
    return server({ app: '5', b: '1', b__before_1: '2' });
  });
  expect(asked).toEqual([['app', 'app__before_00ab12', 'b', 'b__before_1']]);
  expect(found.turned).toEqual(['t']);
  expect(await state.rollbacks()).toEqual([volume, other, { ...turned, inUse: 'before' }]);
  expect(await refreshKept(state, 'none', () => Promise.reject(new Error('asked')))).toEqual({ kept: [], turned: [] });
});

test('databases in a data directory that is put aside keep their record, although the server has none of them', async () => {
  const inPlace: Rollback = { ...volume, id: '20261120T040000Z-00ab12', source: 'db.postgres' };
  const dataDirectory = { kind: 'volume', name: 'db.postgres' } as unknown as VolumeSource;
  const later = { ...one, id: '20261120T050000Z-00ab12' };
  const look = async (inUse: Rollback['inUse']) => {
    await state.saveRollbacks([one, { ...inPlace, inUse, dataDirectory }, later]);
    await refreshKept(state, 'db.postgres', async () => server({ app: '9' }));
    return (await state.rollbacks()).map(({ id }) => id);
  };
  expect(await look('restored')).toEqual([one.id, inPlace.id]);
  expect(await look('before')).toEqual([inPlace.id, later.id]);
});

const plan = async () => ({
  project: 'shop',
  sources: [{ name: 'db.postgres', kind: 'postgres' } as PostgresSource],
  problems: [],
});

test('status queries each server once, shows records of servers that do not answer, and removes nothing', async () => {
  const gone = { ...one, id: 'gone', databases: [{ name: 'app', before: 'app__before_1', oid: '1' }] };
  const elsewhere = { ...one, id: 'elsewhere', source: 'stopped.postgres' };
  await state.saveRollbacks([one, gone, volume, elsewhere]);
  let opened = 0;
  const tools = {
    control: async () => ({
      all: async () => [
        { name: 'app', oid: '9', bytes: '100' },
        { name: 'app__before_00ab12', oid: '5', bytes: '7' },
      ],
    }),
    close: async () => undefined,
  } as unknown as Tools;
  const unreachable = () => Promise.reject(new Error('not reached'));
  const open = async () => {
    opened += 1;
    return tools;
  };
  const deps = { state, plan, open: async () => new Set<string>() };
  const { restores } = await listKept(deps, open, unreachable);
  const missing = expect.stringMatching(/^no running container has the source/);
  expect(restores).toEqual([
    { ...elsewhere, missing },
    { ...volume, missing },
    { ...one, bytes: 7 },
  ]);
  expect(opened).toBe(1);
  expect(await state.rollbacks()).toHaveLength(4);
  await state.saveRollbacks([]);
  expect(await listKept(deps, unreachable, unreachable)).toEqual({ restores: [], stray: [] });
});

test('old databases are recognised by their names where no restore is remembered', async () => {
  const long = 'ä'.repeat(31);
  const cut = workingName(long, 'before', '4f1c9a');
  const listed = [
    'app',
    'app__before_00ab12',
    'app__restoring_4f1c9a',
    long,
    cut,
    'gone__before_4f1c9a',
    'app__before_me',
  ];
  const kept = async () =>
    (
      await keptDatabases(
        state,
        'db.postgres',
        listed.map((name) => ({ name })),
      )
    ).map(brief);
  const brief = ({ name, forgotten }: { name: string; forgotten?: true }) => [name, forgotten ?? false];
  // What a restore replaced may be all that is left of a database: without that database it is backed up.
  const found = ['app__restoring_4f1c9a', cut].map((name) => [name, true]);
  expect(await kept()).toEqual([['app__before_00ab12', true], ...found]);
  await state.saveRollbacks([one]);
  expect(await kept()).toEqual([['app__before_00ab12', false], ...found]);
});
