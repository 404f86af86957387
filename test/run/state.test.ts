import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openState } from '../../src/run/state.ts';
import { makeFailure, makeReport, makeResult } from '../report/fixtures.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-state-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('the state of a new agent is empty, and returns what is stored in it', async () => {
  const state = openState(directory);
  expect([await state.lastRun(), await state.served(), await state.accepted()]).toEqual([undefined, {}, {}]);
  await state.saveServed({ '0 3 * * *': '2026-11-20T03:00:00.000Z' });
  await state.saveAccepted({ 'web.media': '2026-11-20T03:00:00.000Z' });
  const again = openState(directory);
  expect(await again.served()).toEqual({ '0 3 * * *': '2026-11-20T03:00:00.000Z' });
  expect(await again.accepted()).toEqual({ 'web.media': '2026-11-20T03:00:00.000Z' });
  expect(statSync(path.join(directory, 'served.json')).mode & 0o777).toBe(0o600);
  expect(readdirSync(directory).filter((name) => name.endsWith('.tmp'))).toEqual([]);
});

test('has an id that does not change, and that no other state has', async () => {
  const id = await openState(directory).home();
  expect(await openState(directory).home()).toBe(id);
  expect(await openState(path.join(directory, 'other')).home()).not.toBe(id);
});

test('the result of a source stays until a run has a newer one', async () => {
  const state = openState(directory);
  await state.saveLastRun(makeReport({ status: 'partial', results: [makeResult(), makeFailure()] }));
  await state.saveLastRun(makeReport({ id: '20261121T030000Z-4f1c9a' }));
  expect(await state.lastRun()).toMatchObject({ status: 'ok' });
  expect(await state.results()).toMatchObject({
    'db.postgres': { run: '20261120T030000Z-4f1c9a', status: 'failed' },
    'web.media': { run: '20261121T030000Z-4f1c9a', status: 'ok' },
  });
});

test('a file that was cut off counts as absent', async () => {
  writeFileSync(path.join(directory, 'last-run.json'), '{"id":"2026');
  writeFileSync(path.join(directory, 'served.json'), '');
  const state = openState(directory);
  expect([await state.lastRun(), await state.served()]).toEqual([undefined, {}]);
});

test('accepted sources and checks of one repository do not apply to another', async () => {
  const state = openState(directory);
  const known = (id: string, name = '/backups') => ({
    info: { format: 1 as const, id, created: '2026-11-20T03:00:00Z' },
    name,
  });
  const remembered = async () => [await state.accepted(), await state.damaged(), await state.checkedTo()];
  const fill = async () => {
    await state.saveAccepted({ 'web.media': { at: '2026-11-20T03:00:00.000Z', sequence: 400 } });
    await state.saveDamaged(['shop/packs/aa']);
    await state.saveCheckedTo('shop/packs/bb');
  };
  const filled = [
    { 'web.media': { at: '2026-11-20T03:00:00.000Z', sequence: 400 } },
    ['shop/packs/aa'],
    'shop/packs/bb',
  ];
  await fill();
  // The first repository, and the same one at another location.
  await state.saveRepository(known('one'));
  await state.saveRepository(known('one', '/elsewhere'));
  expect(await remembered()).toEqual(filled);
  await state.saveRepository(known('two'));
  expect(await remembered()).toEqual([{}, [], undefined]);
  await fill();
  expect(await remembered()).toEqual(filled);
});

test('a cached index is found only by its hash, and replaces the previous one', async () => {
  const state = openState(directory);
  const cache = async (source: string, sha256: string, text: string) => {
    const file = path.join(directory, 'fresh');
    writeFileSync(file, text);
    await state.cacheIndex(source, sha256, file);
  };
  await cache('web.media', 'aa', 'one');
  await cache('web.media-2', 'cc', 'other');
  await cache('web.media', 'bb', 'two');
  expect(await state.cachedIndex('web.media', 'aa')).toBeUndefined();
  expect(readFileSync((await state.cachedIndex('web.media', 'bb')) ?? '', 'utf8')).toBe('two');
  expect(await state.cachedIndex('web.media-2', 'cc')).toBeDefined();
});

test('a cached index that the disk has damaged is not cached, and each run looks again', async () => {
  const state = openState(directory);
  const file = path.join(directory, 'fresh');
  writeFileSync(file, 'the lines of an index');
  await state.cacheIndex('web.media', 'aa', file);
  const cached = (await state.cachedIndex('web.media', 'aa')) as string;
  writeFileSync(cached, 'the lines of an inbex');
  await state.keepCached(undefined);
  expect(await state.cachedIndex('web.media', 'aa')).toBeUndefined();
  expect(existsSync(cached)).toBe(false);
  // An older version wrote no checksum.
  writeFileSync(path.join(path.dirname(cached), 'web.media@bb.ndjson'), 'lines');
  expect(readFileSync((await state.cachedIndex('web.media', 'bb')) ?? '', 'utf8')).toBe('lines');
});

test('what is cached of sources that no kept snapshot has is removed when a run begins', async () => {
  const state = openState(directory);
  for (const [source, sha256] of [
    ['web.media', 'aa'],
    ['web.media-2', 'bb'],
    ['gone.data', 'cc'],
  ] as const) {
    const file = path.join(directory, 'fresh');
    writeFileSync(file, source);
    await state.cacheIndex(source, sha256, file);
    await state.cacheFacts(source, sha256, { source });
  }
  await state.keepCached(undefined);
  const sources = ['web.media', 'web.media-2', 'gone.data'];
  const left = async () =>
    Promise.all(
      sources.map(async (source, i) => [
        (await state.cachedIndex(source, ['aa', 'bb', 'cc'][i] as string)) !== undefined,
        (await state.cachedFacts(source, ['aa', 'bb', 'cc'][i] as string)) !== undefined,
      ]),
    );
  expect(await left()).toEqual([
    [true, true],
    [true, true],
    [true, true],
  ]);
  // The newest snapshot of one source is gone, but not all of them.
  await state.keepCached({ sources: new Set(['web.media', 'web.media-2']), indexes: new Set(['aa', 'dd']) });
  expect(await left()).toEqual([
    [true, true],
    [false, true],
    [false, false],
  ]);
});

test('after the project was renamed, the runs under its former name do not count', async () => {
  const report = makeReport({ project: 'shop' });
  await openState(directory, 'shop').saveLastRun(report, report);
  const renamed = openState(directory, 'shop2');
  expect([await renamed.lastRun(), await renamed.results()]).toEqual([undefined, {}]);
  const own = makeReport({ id: '20261121T030000Z-000001', project: 'shop2' });
  await renamed.saveLastRun(own, own);
  expect((await renamed.lastRun())?.id).toBe(own.id);
  expect(Object.values(await renamed.results()).map(({ run }) => run)).toEqual([own.id]);
});
