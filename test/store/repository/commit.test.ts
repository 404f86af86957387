import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { type Destination, markUncertain } from '../../../src/destinations/destination.ts';
import { openRepository } from '../../../src/store/repository/open-repository.ts';
import { keys } from '../../contract/destination.ts';
import { type Over, RunBench } from '../../run/run-bench.ts';

/** Tests the fate of a manifest whose put fails, and of one whose repository disappears before the put. */

let bench: RunBench;
beforeEach(async () => {
  bench = new RunBench();
  await bench.open();
});
afterEach(() => bench.remove());

const refused = (cause?: unknown) => new LifeboatError('DEST_UNWRITABLE', 'refused', { cause });
const system = (code: string, errno: number) => Object.assign(new Error(code), { code, errno });

/** Runs a backup that stores one object and whose manifest `putManifest` puts. */
function runWith(putManifest: (put: () => Promise<unknown>) => Promise<never>, over: Over = {}) {
  const of = bench.destination();
  const put: Destination['put'] = async (key, body, options) => {
    const store = () => of.put(key, body, options);
    return key.endsWith('/manifest.json') ? putManifest(store) : store();
  };
  const repository = () => openRepository({ ...of, put }, { project: 'shop', create: true, keys: {} });
  const stores = async (record: (key: string) => void) => {
    record((await (await bench.open()).putFacts('20261120T030000Z-aaaaaa', 'config', {})).key);
  };
  return bench.run('a', { repository, stores, ...over });
}

test.each<[string, () => unknown, number]>([
  ['a refusal', () => refused(), 0],
  ['a refusal after an attempt whose response was lost', () => markUncertain(refused()), 1],
  ['a refused read of the stored manifest', () => refused(markUncertain(new Error('403'))), 1],
  ['an I/O error', () => refused(system('EIO', -5)), 1],
  ['a stale mount', () => refused(system('ESTALE', -116)), 1],
])('after %s, the stored objects stay only if the manifest may still arrive', async (_, failure, staying) => {
  const report = await runWith(async () => {
    throw failure();
  });
  expect(report).toMatchObject({ status: 'failed', error: { code: 'DEST_UNWRITABLE' } });
  expect(report.error?.hint?.includes('If it arrives') ?? false).toBe(staying > 0);
  expect(await keys(bench.destination(), 'shop/snapshots/')).toHaveLength(staying);
});

test.each<[string, () => unknown, number]>([
  ['is pinned when its manifest is sent', () => refused(system('EIO', -5)), 1],
  ['has no pin left if its manifest was refused', () => refused(), 0],
])('an imported snapshot %s', async (_, failure, staying) => {
  const imported = { at: '2026-11-01T03:00:00.000Z', file: 'old.tar' };
  const pins = () => keys(bench.destination(), 'shop/pins/');
  const putManifest = async () => {
    expect(await pins()).toHaveLength(1);
    throw failure();
  };
  const report = await runWith(putManifest, { trigger: 'import', request: { imported } });
  expect(report.error?.code).toBe('DEST_UNWRITABLE');
  expect(await pins()).toEqual(staying > 0 ? [`shop/pins/${report.id}.json`] : []);
});

test('an import that ends before its manifest is sent leaves no pin', async () => {
  const of = bench.destination();
  const put: Destination['put'] = async (key, body, options) => {
    const stored = await of.put(key, body, options);
    if (!key.startsWith('shop/pins/')) return stored;
    throw markUncertain(new LifeboatError('DEST_UNREACHABLE', 'no response'));
  };
  const repository = () => openRepository({ ...of, put }, { project: 'shop', create: true, keys: {} });
  const imported = { at: '2026-11-01T03:00:00.000Z', file: 'old.tar' };
  const report = await bench.run('a', { repository, trigger: 'import', request: { imported } });
  expect(report.error?.code).toBe('DEST_UNREACHABLE');
  expect(await keys(of, 'shop/pins/')).toEqual([]);
});

test('a recovery to a point in time is not pinned', async () => {
  const imported = { at: '2026-11-01T03:00:00.000Z', file: 'recovery to 2026-11-01', kind: 'recovery' };
  const report = await bench.run('a', { trigger: 'import', request: { imported } });
  expect(report.snapshot).toBe(report.id);
  expect(await keys(bench.destination(), 'shop/pins/')).toEqual([]);
});

test('a stored manifest counts even if the disk fails afterwards', async () => {
  const report = await runWith(async (put) => {
    await put();
    throw refused(system('EIO', -5));
  });
  expect([report.error, report.snapshot]).toEqual([undefined, report.id]);
});

test.each<[string, string | undefined]>([
  ['emptied', undefined],
  ['replaced by another', '00000000-0000-4000-8000-000000000000'],
])('no manifest is put into a repository that was %s since it was opened', async (_, id) => {
  const of = bench.destination();
  const during = async () => {
    const found = await text(await of.get('lifeboat.json'));
    await of.delete('lifeboat.json');
    const info = { ...(JSON.parse(found) as object), id };
    if (id !== undefined) await of.put('lifeboat.json', Readable.from([`${JSON.stringify(info)}\n`]));
  };
  const report = await bench.run('a', { during });
  expect(report).toMatchObject({ status: 'failed', error: { code: 'DEST_FOREIGN' } });
  expect((await keys(of, 'shop/snapshots/')).filter((key) => key.endsWith('/manifest.json'))).toEqual([]);
});
