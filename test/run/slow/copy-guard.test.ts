import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/errors.ts';
import { copyLines, copyStateLines } from '../../../src/report/copy-text.ts';
import type { CopyReport } from '../../../src/report/events.ts';
import type { CopyState } from '../../../src/state.ts';
import { deletePin, putPin } from '../../../src/store/pins.ts';
import { CopyBench, type Fault, MEDIA } from '../copy-bench.ts';

/** What keeps a copy from harm that comes of a wrong place, a lock, or a long time. */

let bench: CopyBench;
beforeEach(() => {
  bench = new CopyBench();
});
afterEach(() => bench.remove());

describe('a copy that is the destination under another name', () => {
  test('is refused before anything is done there', async () => {
    bench.copyKeep = 'last 1';
    await bench.nights(3);
    const lease = await bench.place('main').lease(await bench.main());
    const place = { ...bench.place('main'), name: '/same' };
    const [report] = await bench.run({ copies: [place], lease }, { pruning: true });
    expect(report).toMatchObject({ status: 'failed', error: { code: 'DEST_FOREIGN' } });
    expect(report?.error?.message).toContain('is the destination itself');
    expect(await bench.ids('main')).toHaveLength(3);
    // Its lease was not taken over.
    await lease.fence();
    expect(await bench.run({ lease })).toMatchObject([{ status: 'ok', snapshots: 1 }]);
    await lease.release();
  });
});

describe('a copy that was complete and is empty now', () => {
  test('is not filled anew, before somebody says so', async () => {
    await bench.nights(2);
    // The first time it is made, also after a try that failed.
    bench.fault = () => {
      throw new LifeboatError('DEST_UNREACHABLE', 'away');
    };
    await bench.run();
    bench.fault = undefined;
    await bench.run();
    const { complete } = (await bench.state.copies()).copy as CopyState;
    const place = bench.destination('copy');
    for await (const { key } of place.list('')) await place.delete(key);
    for (let run = 0; run < 2; run++) {
      const [report] = await bench.run();
      expect(report).toMatchObject({ status: 'failed', error: { code: 'DEST_FOREIGN' }, objects: 0 });
      expect(report?.error?.message).toBe(`copy holds nothing, and so no copy; it was complete at ${complete}`);
      expect(report?.error?.hint).toContain('lifeboat accept copy');
      expect(bench.files()).toEqual({});
    }
    await bench.state.saveCopies({ copy: {} });
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 2 }]);
  });
});

describe('a copy that lets nothing be deleted', () => {
  const refuse: Fault = (call, key) => {
    if (call === 'delete' && !key.includes('/leases/')) throw new LifeboatError('DELETE_REFUSED', `${key} is kept`);
  };

  test('goes on after an unpin, and tells what it does not let be pruned', async () => {
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
      '  copy copy is up to date · 2 old snapshots kept by the destination',
    ]);
  });

  test('gets the snapshots that do not need what is wrong there, and tells the others', async () => {
    const ids = await bench.nights(3);
    await bench.run();
    const { snapshots } = await (await bench.main()).snapshots();
    const pack = snapshots[2]?.manifest.sources[MEDIA]?.packs[1]?.key as string;
    bench.write('copy', pack, 'short');
    bench.write('copy', `shop/snapshots/${ids[1]}/manifest.json`, '{"format":1');
    bench.fault = refuse;
    const [fourth] = (await bench.nights(1)) as [string];
    const [report] = await bench.run();
    expect(report).toMatchObject({ status: 'partial', snapshots: 1, error: { code: 'DELETE_REFUSED' } });
    expect(report?.error?.message).toContain(`${ids[0]} is not copied: ${pack} has the wrong size`);
    expect(Object.keys(bench.files())).toContain(`shop/snapshots/${fourth}/manifest.json`);
    expect((await bench.state.copies()).copy?.behindSince).toBe(snapshots[1]?.manifest.end);
    // Nothing is wrong with the destination.
    expect(await bench.state.damaged()).toEqual([]);
    bench.fault = undefined;
    expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 1, objects: 1 }]);
    expect(await bench.ids()).toHaveLength(4);
  });
});

test('locks are seen to before the manifest is there, and what is wrong with them is told once', async () => {
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

test('a copy that takes its time to prune is not ended as one that hangs', async () => {
  bench.copyKeep = 'last 1';
  await bench.nights(8);
  await bench.run({ copies: [{ ...bench.place(), keep: { last: 9 } }] });
  bench.stallTimeoutMs = 300;
  bench.fault = (call) => (call === 'delete' ? sleep(60) : undefined);
  const [report] = await bench.run({}, { pruning: true });
  expect(report).toMatchObject({ status: 'ok', pruned: { snapshots: 7 } });
  expect(report?.pruneError).toBeUndefined();
});
