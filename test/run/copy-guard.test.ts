import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/errors.ts';
import type { CopyState } from '../../src/state.ts';
import { CopyBench } from './copy-bench.ts';

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
