import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { CopyPlace } from '../../src/copy/context.ts';
import { pruneEverywhere } from '../../src/copy/prune-everywhere.ts';
import type { Plan } from '../../src/plan/model.ts';
import { CopyBench, MEDIA } from '../run/copy-bench.ts';

test('each place is pruned by its own retention, and a failing one does not stop the others', async () => {
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
      stallTimeoutMs: 60_000,
      now: () => new Date(bench.now),
      clockJump: () => undefined,
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
    const held = async () => [await bench.ids('main'), await bench.ids(), await bench.ids('other')];
    await bench.nights(2);
    await bench.run({ copies: [bench.place(), bench.place('other')] });
    const before = await held();
    expect(before.map(({ length }) => length)).toEqual([6, 4, 3]);
    // In any order: nothing is removed from a place with two names, and every other place is pruned.
    const same = { ...bench.place('main'), name: '/same', keep: { last: 1 } };
    expect(await pruneEverywhere({ ...deps, copies: [same] }, { dryRun: false }, signal)).toMatchObject([
      { destination: 'main', error: { code: 'DEST_FOREIGN' } },
      { destination: '/same', error: { message: '/same is the destination itself, under another name' } },
    ]);
    const again = { ...bench.place(), name: '/again', keep: { daily: 30 } };
    const short = { ...bench.place('other'), keep: { last: 2 } };
    for (const twice of [
      [bench.place(), again],
      [again, bench.place()],
    ]) {
      const [, first, second] = await pruneEverywhere({ ...deps, copies: twice }, { dryRun: false }, signal);
      expect([first, second]).toMatchObject([{ error: { code: 'DEST_FOREIGN' } }, { error: { code: 'DEST_FOREIGN' } }]);
    }
    expect(await held()).toEqual(before);
    const [, , , pruned] = await pruneEverywhere(
      { ...deps, copies: [bench.place(), again, short] },
      { dryRun: false },
      signal,
    );
    expect(pruned).toMatchObject({ destination: 'other', result: { snapshots: 1 } });
    expect((await held()).map(({ length }) => length)).toEqual([6, 4, 2]);

    // A clock that is set after the destination was pruned stops the prunes of the copies.
    const jumped = new LifeboatError('CLOCK_JUMPED', 'the clock was set');
    let prunes = 0;
    const once = { ...deps, copies: [{ ...bench.place('other'), keep: { last: 1 } }] };
    const set = { ...once, clockJump: () => (prunes++ === 0 ? undefined : jumped) };
    expect(await pruneEverywhere(set, { dryRun: false }, signal)).toMatchObject([
      { destination: 'main', result: { snapshots: 0 } },
      { destination: 'other', error: { code: 'CLOCK_JUMPED' } },
    ]);
    expect((await held())[2]).toHaveLength(2);

    // An interruption is no failure of the copy that is pruned: the others are not pruned either.
    const stop = new AbortController();
    const stopped = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
    const interrupting: CopyPlace = {
      ...bench.place(),
      async open(main, options) {
        if (prunes++ > 0) stop.abort(stopped);
        stop.signal.throwIfAborted();
        return bench.place().open(main, options);
      },
    };
    prunes = 0;
    const some = [interrupting, { ...bench.place('other'), keep: { last: 1 } }];
    expect(await pruneEverywhere({ ...deps, copies: some }, { dryRun: false }, stop.signal)).toMatchObject([
      { destination: 'main', result: { snapshots: 0 } },
      { destination: 'copy', error: { code: 'INTERRUPTED' } },
      { destination: 'other', error: { code: 'INTERRUPTED' } },
    ]);
    expect((await held())[2]).toHaveLength(2);

    // A copy that could not be compared is not pruned, even if it responds a moment later.
    const [hiccup, full] = [new LifeboatError('DEST_UNREACHABLE', 'away'), new LifeboatError('DEST_FULL', 'full')];
    const shorter = { ...bench.place('other'), keep: { last: 1 } };
    const failing = async (copies: CopyPlace[], error: LifeboatError, which: number[]) => {
      let calls = 0;
      const lease: typeof deps.lease = async (repository) => {
        if (which.includes(calls++)) throw error;
        return deps.lease(repository);
      };
      return pruneEverywhere({ ...deps, copies, lease }, { dryRun: false }, signal);
    };
    expect((await failing([shorter], hiccup, [1]))[1]).toMatchObject({ error: { code: 'DEST_UNREACHABLE' } });
    expect((await held())[2]).toHaveLength(2);
    // If there is no room for a lease, the last lease there identifies the place.
    expect((await failing([same], full, [0, 1]))[1]).toMatchObject({ error: { code: 'DEST_FOREIGN' } });
    expect((await held())[0]).toHaveLength(6);
    const behindSince = '2026-11-12T03:00:00.000Z';
    await bench.state.saveCopies({ other: { behindSince, error: { code: 'DEST_FULL', message: 'full' } } });
    expect((await failing([shorter], full, [1]))[1]).toMatchObject({ result: { snapshots: 1 } });

    // The last run's finding applies while the other name does not respond.
    await bench.state.saveCopies({ copy: { sameAs: '/again' }, '/again': { sameAs: 'copy' } });
    const lost = { ...again, open: away.open };
    const [, kept] = await pruneEverywhere(
      { ...deps, copies: [{ ...bench.place(), keep: { last: 1 } }, lost] },
      { dryRun: false },
      signal,
    );
    expect(kept).toMatchObject({ error: { message: 'copy is /again, under another name' } });
    expect((await held())[1]).toHaveLength(4);
  } finally {
    bench.remove();
  }
});
