import { expect, test } from 'vitest';
import type { CopyPlace } from '../../src/copy.ts';
import { LifeboatError } from '../../src/errors.ts';
import { silentLog } from '../../src/log.ts';
import type { Plan } from '../../src/plan/model.ts';
import { pruneEverywhere } from '../../src/prune-everywhere.ts';
import { CopyBench, MEDIA } from './copy-bench.ts';

test('each place is pruned by its own retention, and one that fails keeps none of the others from it', async () => {
  const bench = new CopyBench();
  try {
    await bench.nights(4);
    await bench.run();
    await bench.run({ copies: [bench.place('other')] });
    bench.copyKeep = 'last 2';
    const away: CopyPlace = {
      ...bench.place(),
      name: 'away',
      open: async () => {
        throw new LifeboatError('DEST_UNREACHABLE', 'away');
      },
    };
    const sources = [{ name: MEDIA, keep: { daily: 30 }, schedule: '0 3 * * *' }];
    const deps = {
      ...{ destination: 'main', copies: [away, bench.place(), { ...bench.place('other'), keep: { last: 1 } }] },
      ...{ keep: { daily: 30 }, state: bench.state, journals: bench.at('journals'), zone: 'UTC', log: silentLog },
      now: () => new Date(bench.now),
      lock: async () => ({ release: async () => undefined }),
      lease: (repository: Awaited<ReturnType<CopyBench['main']>>) => bench.place().lease(repository),
      recover: async () => undefined,
      plan: async () => ({ project: 'shop', problems: [], sources }) as unknown as Plan,
      repository: () => bench.main(),
    };
    const signal = new AbortController().signal;
    const shown = await pruneEverywhere(deps, { dryRun: true }, signal);
    expect(await bench.ids()).toHaveLength(4);
    const outcome = [
      { destination: 'main', result: { snapshots: 0 } },
      { destination: 'away', error: { code: 'DEST_UNREACHABLE' } },
      { destination: 'copy', result: { snapshots: 2 } },
      { destination: 'other', result: { snapshots: 3 } },
    ];
    expect(shown).toMatchObject(outcome);
    expect(await pruneEverywhere(deps, { dryRun: false }, signal)).toMatchObject(outcome);
    await bench.state.saveCopies({ other: { behindSince: '2026-11-12T03:00:00.000Z' } });
    const [, , , behind] = await pruneEverywhere(deps, { dryRun: false }, signal);
    expect(behind).toMatchObject({ error: { message: expect.stringContaining('is not pruned: it has been behind') } });
    const same = { ...bench.place('main'), name: '/same', keep: { last: 1 } };
    expect((await pruneEverywhere({ ...deps, copies: [same] }, { dryRun: false }, signal))[1]).toMatchObject({
      error: { code: 'DEST_FOREIGN' },
    });
    expect([await bench.ids('main'), await bench.ids(), await bench.ids('other')].map(({ length }) => length)).toEqual([
      4, 2, 1,
    ]);
  } finally {
    bench.remove();
  }
});
