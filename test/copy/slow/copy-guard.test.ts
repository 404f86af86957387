import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import type { CopyPlace } from '../../../src/copy/context.ts';
import { copyLines, copyStateLines } from '../../../src/report/copy-text.ts';
import type { CopyReport } from '../../../src/report/events.ts';
import { formatWhen } from '../../../src/report/format.ts';
import type { CopyState } from '../../../src/run/state.ts';
import { deletePin, putPin } from '../../../src/store/repository/pins.ts';
import { LONG_WAIT } from '../../harness/wait.ts';
import { CopyBench, DAY, type Fault } from '../../run/copy-bench.ts';

/** Tests copies at a wrong place, with locks, and with long delays. */

let bench: CopyBench;
beforeEach(() => {
  bench = new CopyBench();
});
afterEach(() => bench.remove());

describe('a copy that is the destination under another name', () => {
  test('is refused before anything changes there', async () => {
    bench.copyKeep = 'last 1';
    await bench.nights(3);
    const lease = await bench.place('main').lease(await bench.main());
    const place = { ...bench.place('main'), name: '/same' };
    const [report] = await bench.run({ copies: [place], lease }, { pruning: true });
    expect(report).toMatchObject({ status: 'failed', error: { code: 'DEST_FOREIGN' } });
    expect(report?.error?.message).toContain('is the destination itself');
    expect(report?.isDestination).toBe(true);
    expect(await bench.ids('main')).toHaveLength(3);
    // The copy has not taken over the destination's lease.
    await lease.fence();
    expect(await bench.run({ lease })).toMatchObject([{ status: 'ok', snapshots: 1 }]);
    await lease.release();
  });
});

describe('two copies that are one place', () => {
  const short = () => ({ ...bench.place(), name: '/short', keep: { last: 1 } });
  const long = () => ({ ...bench.place(), name: '/long', keep: { last: 9 } });
  const slow = (place: CopyPlace): CopyPlace => ({
    ...place,
    open: async (...args) => {
      await sleep(300);
      return place.open(...args);
    },
  });

  test.each([
    ['the short one first', () => [short(), long()]],
    ['the long one first', () => [long(), short()]],
    ['the short one first, and finished before the other is compared', () => [short(), slow(long())]],
    ['the short one listed last, but finished first', () => [slow(long()), short()]],
  ])('keep what they have, and one of them has everything: %s', async (_, copies) => {
    await bench.nights(3);
    await bench.run({ copies: [long()] });
    const ids = await bench.nights(1);
    for (let run = 0; run < 2; run++) {
      const reports = await bench.run({ copies: copies() }, { pruning: true });
      const [refused] = reports.filter(({ status }) => status === 'failed');
      const [made] = reports.filter(({ status }) => status === 'ok');
      expect(refused).toMatchObject({ error: { code: 'DEST_FOREIGN' } });
      expect(refused?.error?.message).toBe(`${refused?.name} is ${made?.name}, under another name`);
      expect(made?.pruneError).toMatchObject({ code: 'DEST_FOREIGN' });
      expect(reports.map(({ pruned }) => pruned)).toEqual([undefined, undefined]);
      expect(await bench.ids()).toHaveLength(4);
      expect(await bench.ids()).toContain(ids[0]);
    }
    // On its own, the short one is pruned.
    expect(await bench.run({ copies: [short()] }, { pruning: true })).toMatchObject([{ pruned: { snapshots: 3 } }]);
  });

  test('are detected even if the first lease takes long, and remembered while one does not respond', async () => {
    await bench.nights(3);
    await bench.run({ copies: [long()] });
    const late = short();
    const { lease } = late;
    late.lease = async (repository) => {
      await sleep(2000);
      return lease(repository);
    };
    const reports = await bench.run({ copies: [late, long()] }, { pruning: true });
    expect(reports.map(({ error, pruneError }) => (error ?? pruneError)?.code)).toEqual([
      'DEST_FOREIGN',
      'DEST_FOREIGN',
    ]);
    const gone = { ...long(), open: () => Promise.reject(new LifeboatError('DEST_UNREACHABLE', 'away')) };
    for (let run = 0; run < 2; run++) {
      expect(await bench.run({ copies: [short(), gone] }, { pruning: true })).toMatchObject([
        { status: 'ok', pruneError: { code: 'DEST_FOREIGN' } },
        { error: { code: 'DEST_UNREACHABLE' } },
      ]);
    }
    expect(await bench.ids()).toHaveLength(3);
    // Corrected: each is a place of its own.
    const apart = { ...bench.place('other'), name: '/long', keep: { last: 9 } };
    await bench.state.saveCopies({ ...(await bench.state.copies()), '/long': { sameAs: '/short' } });
    expect(await bench.run({ copies: [short(), apart] }, { pruning: true })).toMatchObject([
      { status: 'ok', pruned: { snapshots: 2 } },
      { status: 'ok' },
    ]);
  });

  test('a copy that hangs while its lease is taken is aborted, and the others are made and pruned', async () => {
    await bench.nights(3);
    await bench.run({ copies: [{ ...bench.place('other'), keep: { last: 9 } }] });
    bench.stallTimeoutMs = 4000;
    const hanging = { ...bench.place(), name: '/hangs', lease: () => new Promise<never>(() => undefined) };
    const other = { ...bench.place('other'), keep: { last: 1 } };
    expect(await bench.run({ copies: [hanging, other] }, { pruning: true })).toMatchObject([
      { status: 'failed', error: { code: 'DEST_UNREACHABLE' } },
      { status: 'ok', pruned: { snapshots: 2 } },
    ]);
  });

  test('a copy that is complete when the run is stopped succeeds and is not pruned', async () => {
    await bench.nights(2);
    const stop = new AbortController();
    const waits: CopyPlace = {
      ...bench.place('other'),
      open: () => new Promise((_, reject) => stop.signal.addEventListener('abort', () => reject(new Error('stopped')))),
    };
    const running = bench.run({ copies: [short(), waits], signal: stop.signal }, { pruning: true });
    await vi.waitFor(async () => expect(await bench.ids()).toHaveLength(1), LONG_WAIT);
    // Little remains to be done after its manifest.
    await sleep(3000);
    stop.abort(new LifeboatError('INTERRUPTED', 'stopped'));
    const [made] = await running;
    expect(made).toMatchObject({ status: 'ok', snapshots: 1 });
    expect(made).not.toHaveProperty('pruneError');
  });

  test('do not prevent the pruning of a third copy, nor does an unresponsive one', async () => {
    await bench.nights(3);
    const gone = {
      ...bench.place('main'),
      name: 'gone',
      open: () => Promise.reject(new LifeboatError('DEST_UNREACHABLE', 'away')),
    };
    const third = { ...bench.place('other'), keep: { last: 1 } };
    await bench.run({ copies: [long(), { ...third, keep: { last: 9 } }] });
    const reports = await bench.run({ copies: [short(), gone, long(), third] }, { pruning: true });
    expect(reports[3]).toMatchObject({ status: 'ok', pruned: { snapshots: 2 } });
    expect(reports[1]).toMatchObject({ status: 'failed', error: { code: 'DEST_UNREACHABLE' } });
    expect(await bench.ids()).toHaveLength(3);
  });
});

describe('a copy that was complete and is empty now', () => {
  test('is not filled again until a person accepts it', async () => {
    await bench.nights(2);
    // The first time, it is created, even after a failed attempt.
    bench.fault = () => {
      throw new LifeboatError('DEST_UNREACHABLE', 'away');
    };
    await bench.run();
    bench.fault = undefined;
    await bench.run();
    const { complete } = (await bench.state.copies()).copy as CopyState;
    const when = formatWhen(new Date(complete ?? ''), { now: new Date(bench.now), zone: 'UTC' });
    const place = bench.destination('copy');
    for await (const { key } of place.list('')) await place.delete(key);
    for (let run = 0; run < 2; run++) {
      const [report] = await bench.run();
      expect(report).toMatchObject({ status: 'failed', error: { code: 'DEST_FOREIGN' }, objects: 0 });
      expect(report?.error?.message).toBe(`copy is empty, so it holds no copy; it was complete ${when}`);
      expect(report?.error?.hint).toContain('lifeboat accept copy');
      expect(bench.files()).toEqual({});
    }
    await bench.state.saveCopies({ copy: {} });
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 2 }]);
  });
});

describe('a copy that forbids deletions', () => {
  const refuse: Fault = (call, key) => {
    if (call === 'delete' && !key.includes('/leases/')) throw new LifeboatError('DELETE_REFUSED', `${key} is kept`);
  };

  test('continues after an unpin and reports what it does not let a prune delete', async () => {
    bench.fault = refuse;
    const [first] = (await bench.nights(1)) as [string];
    await putPin(await bench.main(), first, { reason: 'x', at: '2026-11-10T03:00:00.000Z' });
    await bench.run();
    await deletePin(await bench.main(), first);
    await bench.nights(2);
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 2 }]);
    bench.fault = undefined;
    await bench.run();
    bench.fault = refuse;
    bench.copyKeep = 'last 1';
    const [report] = await bench.run({}, { pruning: true });
    expect(report).toMatchObject({ status: 'ok', pruned: { snapshots: 0, refused: { snapshots: 2 } } });
    expect(copyLines([report as CopyReport], new Date(bench.now))).toEqual([
      '  copy copy is up to date · 2 old snapshots that the destination refuses to delete',
    ]);
  });

  test('receives the snapshots that need no wrong object and reports the others', async () => {
    const ids = await bench.nights(3);
    await bench.run();
    const pack = await bench.ownPack(2);
    bench.write('copy', pack, 'short');
    bench.write('copy', `shop/snapshots/${ids[1]}/manifest.json`, '{"format":1');
    bench.fault = refuse;
    const [fourth] = (await bench.nights(1)) as [string];
    const [report] = await bench.run();
    expect(report).toMatchObject({ status: 'partial', snapshots: 1, error: { code: 'DELETE_REFUSED' } });
    expect(report?.error?.message).toContain(`${ids[0]} is not copied: ${pack} has the wrong size`);
    expect(Object.keys(bench.files())).toContain(`shop/snapshots/${fourth}/manifest.json`);
    expect((await bench.state.copies()).copy?.behindSince).toBe(new Date(bench.now - 3 * DAY).toISOString());
    // The destination is undamaged.
    expect(await bench.state.damaged()).toEqual([]);
    bench.fault = undefined;
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 1, objects: 1 }]);
    expect(await bench.ids()).toHaveLength(4);
  });
});

test('a manifest that the disk of a copy does not return stays there and is reported', async () => {
  const [id] = (await bench.nights(2)) as [string];
  await bench.run();
  const files = bench.files();
  bench.fault = (call, key) => {
    const failed = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO', errno: -5 });
    if (call === 'get' && key.endsWith(`${id}/manifest.json`)) {
      throw new LifeboatError('OBJECT_DAMAGED', `${key} cannot be read`, { cause: failed });
    }
  };
  await bench.nights(1);
  const [report] = await bench.run({}, { pruning: true });
  expect(report).toMatchObject({ status: 'partial', snapshots: 1, error: { code: 'OBJECT_DAMAGED' } });
  expect(report?.error?.message).toBe(`the manifest of ${id} cannot be read at copy`);
  expect(report?.pruned).toBeUndefined();
  for (const key of Object.keys(files).filter((name) => name.includes(id))) expect(bench.files()[key]).toBe(files[key]);
  bench.fault = undefined;
  expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 0 }]);
});

test('locks are prolonged before the manifest is put, and a problem with them is reported once', async () => {
  const seen: boolean[] = [];
  bench.prolong = async () => {
    seen.push(Object.keys(bench.files()).some((key) => key.endsWith('manifest.json')));
    throw new LifeboatError('DEST_UNWRITABLE', 'it does not let this key prolong locks');
  };
  await bench.nights(2);
  const [report] = await bench.run();
  expect(seen).toEqual([false, true]);
  expect(report).toMatchObject({ status: 'ok', problems: [{ severity: 'warning', code: 'DEST_UNWRITABLE' }] });
  expect(report?.problems).toHaveLength(1);
  const { copy } = await bench.state.copies();
  expect(copyLines([report as CopyReport], new Date())[1]).toContain('! copy copy: older packs');
  expect(copyStateLines([{ name: 'copy', ...copy }], new Date())[1]).toContain('! copy copy: older packs');
});

test('a copy whose prune is slow is not aborted as one that hangs', async () => {
  bench.copyKeep = 'last 1';
  await bench.nights(8);
  await bench.run({ copies: [{ ...bench.place(), keep: { last: 9 } }] });
  bench.stallTimeoutMs = 4000;
  bench.fault = (call) => (call === 'delete' ? sleep(300) : undefined);
  const [report] = await bench.run({}, { pruning: true });
  expect(report).toMatchObject({ status: 'ok', pruned: { snapshots: 7 } });
  expect(report?.pruneError).toBeUndefined();
});
