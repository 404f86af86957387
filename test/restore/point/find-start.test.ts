import { describe, expect, test } from 'vitest';
import { findReadableStart, findStart } from '../../../src/restore/point/find-start.ts';
import { describeTarget, type Target, targetSettings } from '../../../src/restore/point/target.ts';
import type { Manifest } from '../../../src/store/objects/manifest.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import type { Repository } from '../../../src/store/repository/repository.ts';
import { formatLsn, startOf } from '../../../src/store/wal/names.ts';
import { readRecoverable } from '../../../src/store/wal/recoverable.ts';
import type { RememberedWal } from '../../../src/store/wal/remembered.ts';
import { keyOf, nameOf, SIZE, SYSTEM, WalBench } from '../../store/wal/bench.ts';

const { signal } = new AbortController();
const lsn = (number: number, offset = 0) => formatLsn(startOf(number, SIZE) + BigInt(offset));
const time = (iso: string): Target => ({ date: new Date(iso), text: iso });

/** Segment 2 ends at 03:00, and each one after it an hour later. */
const hour = (number: number) => `2026-11-20T${String(number + 1).padStart(2, '0')}:00:00.000Z`;

/**
 * A server with base backups in segments 2 and 5 of timeline 1, which ends in segment 9, at 10:00. Timeline 2 left it in
 * segment 7, goes on at 12:00, and ends in segment 8, at 13:00.
 */
async function makeServer(): Promise<Repository> {
  const bench = new WalBench();
  await bench.store(1, 9, { reached: hour });
  const writer = await bench.open();
  const history = { name: '00000002.history', ancestors: [{ timeline: 1, until: lsn(7, 5000) }] };
  await writer.append({ histories: [{ ...history, ...(await bench.put(history.name)) }] });
  await bench.store(7, 8, { timeline: 2, reached: (number) => hour(number + 4) });
  const manifests: Manifest[] = [bench.base(2)];
  bench.at = '2026-11-20T05:00:00.000Z';
  manifests.push(bench.base(5));
  return {
    ...bench.repository,
    snapshots: async () => ({ snapshots: manifests.map((manifest) => ({ manifest })), damaged: [] }),
    resolve: async (id: string) => ({ manifest: manifests.find((one) => one.id === id) }),
  } as unknown as Repository;
}
const start = async (target: Target, timeline?: number) => {
  const aim = { target, ...(timeline === undefined ? {} : { timeline }) };
  const { base, window } = await findStart(await makeServer(), { source: 'db.postgres', signal, ...aim }, undefined);
  return [base.snapshot, window.timeline];
};

describe('the start of a recovery', () => {
  test.each<[Target, number | undefined, string, number]>([
    ['latest', undefined, 'base-5', 2],
    ['latest', 1, 'base-5', 1],
    [time('2026-11-20T04:00:00Z'), undefined, 'base-2', 2],
    [time('2026-11-20T05:00:00Z'), undefined, 'base-5', 2],
    [{ lsn: lsn(4) }, undefined, 'base-2', 2],
    [{ lsn: lsn(6) }, undefined, 'base-5', 2],
    // Both timelines have the same transactions up to the end of segment 6.
    [time('2026-11-20T06:59:59Z'), undefined, 'base-5', 2],
    [time('2026-11-20T08:00:00Z'), 1, 'base-5', 1],
    [time('2026-11-20T08:00:00Z'), 2, 'base-5', 2],
    // Timeline 1 has ended, and the server writes on timeline 2.
    [time('2026-11-20T12:00:00Z'), undefined, 'base-5', 2],
    [time('2026-11-20T11:00:00Z'), 2, 'base-5', 2],
    [{ lsn: lsn(7, 5000) }, undefined, 'base-5', 2],
    [{ lsn: lsn(8, 100) }, 1, 'base-5', 1],
    [{ lsn: lsn(8, 100) }, 2, 'base-5', 2],
    // A marker may be anywhere.
    [{ xid: '800' }, undefined, 'base-2', 2],
    [{ name: 'before the migration' }, 1, 'base-2', 1],
  ])('for %j on timeline %s is %s on timeline %i', async (target, timeline, snapshot, found) => {
    expect(await start(target, timeline)).toEqual([snapshot, found]);
  });

  test.each<[Target, number | undefined]>([
    [{ lsn: lsn(2) }, undefined],
    [{ lsn: lsn(11) }, undefined],
    [{ lsn: lsn(9, 100) }, 2],
    [time('2026-11-20T02:00:00Z'), undefined],
    ['latest', 3],
    [{ xid: '800' }, 3],
  ])('for %j on timeline %s does not exist', async (target, timeline) => {
    await expect(start(target, timeline)).rejects.toMatchObject({ code: 'PITR_TIME' });
  });

  test.each<Target>([
    // Only timeline 1 lived then: timeline 2 has the older state of the fork.
    time('2026-11-20T08:00:00Z'),
    time('2026-11-20T07:00:00Z'),
    // Timeline 1 has ended, and nothing shows that the server was on timeline 2 already.
    time('2026-11-20T11:00:00Z'),
    { lsn: lsn(7, 5001) },
    { lsn: lsn(8, 100) },
    // Timeline 2 does not reach this position yet.
    { lsn: lsn(9, 100) },
  ])('for %j needs the timeline: two of them have other states there', async (target) => {
    await expect(start(target)).rejects.toMatchObject({
      code: 'PITR_TIME',
      message: expect.stringContaining('a point on each of them: 1, 2'),
      hint: expect.stringMatching(/--timeline 1, whose WAL ends at \S+, or --timeline 2, whose WAL ends at /),
    });
  });
});

describe('the latest point after a recovery in place', () => {
  /** A server that left timeline 1 in segment 7. Of timeline 2, its history file is stored, and what `more` stores. */
  async function latest(more: (bench: WalBench) => Promise<unknown>, remembered?: RememberedWal, timeline?: number) {
    const bench = new WalBench();
    await bench.store(1, 9, { reached: hour });
    const writer = await bench.open();
    const history = { name: '00000002.history', ancestors: [{ timeline: 1, until: lsn(7, 5000) }] };
    await writer.append({ histories: [{ ...history, ...(await bench.put(history.name)) }] });
    await more(bench);
    const repository = bench.withSnapshots([bench.base(2)]);
    const deps = { repository: async () => repository, remembered: async () => remembered };
    const aim = { target: 'latest' as const, ...(timeline === undefined ? {} : { timeline }) };
    const { start } = await findReadableStart(deps, { source: 'db.postgres', signal, ...aim });
    return start.window.timeline;
  }
  const nothing = async () => undefined;
  const undated = (bench: WalBench) => bench.store(7, 7, { timeline: 2 });
  const on = (timeline: number) => ({ systemId: SYSTEM, timeline });

  test.each<[string, (bench: WalBench) => Promise<unknown>, RememberedWal | undefined]>([
    ['only its history file', nothing, undefined],
    ['WAL without a time', undated, undefined],
    ['only its history file, and the agent knows it', nothing, on(2)],
    ['nothing of a timeline that the agent knows', undated, on(3)],
  ])('is refused while the new timeline has %s', async (_, more, remembered) => {
    await expect(latest(more, remembered)).rejects.toMatchObject({
      code: 'PITR_TIME',
      message: expect.stringMatching(/is on timeline [23], of which no window is known yet/),
      hint: expect.stringContaining('--timeline 1'),
    });
    expect(await latest(more, remembered, 1)).toBe(1);
  });

  test('is refused while the history that the server has begun has no window', async () => {
    const anew = async (bench: WalBench) => {
      bench.at = '2026-11-20T12:00:00.000Z';
      const why = 'a recovery in place brought back data of an earlier history of the server';
      await (await bench.open()).beginAnew({ at: bench.at, timeline: 2, to: lsn(7), why });
      bench.at = '2026-11-20T03:00:00.000Z';
    };
    await expect(latest(anew, on(2))).rejects.toMatchObject({
      code: 'PITR_TIME',
      message: expect.stringContaining('has begun another history at 2026-11-20T12:00:00.000Z'),
    });
    expect(await latest(anew, on(2), 1)).toBe(1);
  });

  test.each<[string, (bench: WalBench) => Promise<unknown>, RememberedWal | undefined, number]>([
    ['WAL with a time', (bench) => bench.store(7, 7, { timeline: 2, reached: () => hour(10) }), undefined, 2],
    ['a window, and the agent knows it', undated, on(2), 2],
    ['been left for the former one', undated, on(1), 1],
  ])('is found if the new timeline has %s', async (_, more, remembered, timeline) => {
    expect(await latest(more, remembered)).toBe(timeline);
  });
});

describe('the latest point while no base backup of what the server writes now is stored', () => {
  const { at } = new WalBench();
  /** A server with a base backup. `more`: what is stored after it. */
  async function latest(more: (bench: WalBench) => Promise<unknown>, remembered?: RememberedWal, timeline?: number) {
    const bench = new WalBench();
    await bench.store(1, 4, { reached: hour });
    bench.at = '2026-11-20T06:00:00.000Z';
    await more(bench);
    bench.at = at;
    const repository = bench.withSnapshots([bench.base(2)]);
    const deps = { repository: async () => repository, remembered: async () => remembered };
    const aim = { target: 'latest' as const, ...(timeline === undefined ? {} : { timeline }) };
    const { start } = await findReadableStart(deps, { source: 'db.postgres', signal, ...aim });
    return start.window.timeline;
  }
  const nothing = async () => undefined;
  const anew = async (bench: WalBench) =>
    (await bench.open()).beginAnew({ at: bench.at, timeline: 1, to: lsn(3), why: 'older data' });
  const known = { systemId: SYSTEM, timeline: 1 };

  test.each<[string, (bench: WalBench) => Promise<unknown>, RememberedWal | undefined]>([
    ['another history has begun', anew, undefined],
    ['another history has begun, and the agent knows its timeline', anew, known],
    ['another server has written WAL', (bench) => bench.store(1, 2, { system: '42' }), undefined],
    ['the agent knows another server', nothing, { systemId: '42', timeline: 1 }],
    [
      'a recovery puts the data of another server in place',
      nothing,
      { ...known, replacement: { ...known, systemId: '42' } },
    ],
    ['a recovery puts data from another repository in place', nothing, { ...known, replacement: known }],
    ['a recovery puts data of another history in place', nothing, { ...known, replacement: { ...known, era: 2 } }],
  ])('is refused if %s', async (_, more, remembered) => {
    await expect(latest(more, remembered)).rejects.toMatchObject({
      code: 'PITR_TIME',
      message: expect.stringMatching(/(other data now|another history at \S+), of which no window is known yet/),
      hint: expect.stringContaining('--timeline 1'),
    });
    expect(await latest(more, remembered, 1)).toBe(1);
  });

  test.each<[string, RememberedWal | undefined]>([
    ['nobody remembers the server', undefined],
    ['the agent knows the server', known],
    ['a recovery puts data of that timeline in place', { ...known, replacement: { ...known, era: 1 } }],
  ])('is found if %s', async (_, remembered) => {
    expect(await latest(nothing, remembered)).toBe(1);
  });
});

test('a time by a clock that was ahead is refused: its commits are those of earlier times', async () => {
  const bench = new WalBench();
  await bench.store(1, 4, { reached: hour });
  bench.at = '2026-11-20T02:50:00.000Z';
  const manifests = [bench.base(2)];
  // The clock was ahead by an hour: segment 4 reaches 05:00.
  bench.at = '2026-11-20T04:00:40.000Z';
  await (await bench.open()).beginAnew({ at: bench.at, timeline: 1, to: lsn(5), why: 'the clock went back' });
  await bench.store(5, 6, { reached: (number) => hour(number + 1) });
  bench.at = '2026-11-20T04:10:00.000Z';
  manifests.push(bench.base(5));
  const repository = bench.withSnapshots(manifests);
  const at = (target: Target) => findStart(repository, { source: 'db.postgres', signal, target }, undefined);
  await expect(at(time('2026-11-20T04:05:00Z'))).rejects.toMatchObject({
    code: 'PITR_TIME',
    message: expect.stringContaining('the clock of the server went back at 2026-11-20T04:00:40.000Z'),
    hint: expect.stringContaining('--lsn'),
  });
  expect((await at(time('2026-11-20T04:00:00Z'))).base.snapshot).toBe('base-2');
  expect((await at(time('2026-11-20T04:00:40.000Z'))).base.snapshot).toBe('base-2');
  expect((await at(time('2026-11-20T04:10:00Z'))).base.snapshot).toBe('base-5');
  expect((await at({ lsn: lsn(4) })).base.snapshot).toBe('base-2');
  const names = { source: 'db.postgres', base: 'db.postgres.base' };
  expect((await readRecoverable(repository, names)).holes).toMatchObject([
    { from: '2026-11-20T04:00:40.000Z', to: '2026-11-20T04:10:00.000Z', why: 'the clock went back' },
  ]);
});

test('a hint names no time by a clock that was ahead, and no window ends with one', async () => {
  const bench = new WalBench();
  await bench.store(1, 4, { reached: hour });
  bench.at = '2026-11-20T02:50:00.000Z';
  const manifests = [bench.base(2)];
  bench.at = '2026-11-20T04:00:40.000Z';
  await (await bench.open()).beginAnew({ at: bench.at, timeline: 1, to: lsn(5), why: 'the clock went back' });
  await bench.store(5, 6);
  bench.at = '2026-11-20T04:10:00.000Z';
  manifests.push(bench.base(5));
  const repository = bench.withSnapshots(manifests);
  const request = { source: 'db.postgres', signal, target: time('2026-11-20T09:00:00Z') };
  await expect(findStart(repository, request, undefined)).rejects.toMatchObject({
    hint: expect.stringContaining('before it: 2026-11-20T04:10:00.000Z'),
  });
  const { spans } = await readRecoverable(repository, { source: 'db.postgres', base: 'db.postgres.base' });
  expect(spans.map(({ to }) => to)).toEqual(['2026-11-20T04:00:40.000Z', '2026-11-20T04:10:00.000Z']);
});

test('the latest point is in the last history of a server, also if the clock was set back meanwhile', async () => {
  const bench = new WalBench();
  await bench.store(1, 4, { reached: hour });
  bench.at = '2026-11-20T02:50:00.000Z';
  const manifests = [bench.base(2)];
  bench.at = '2026-11-20T02:55:00.000Z';
  await (await bench.open()).beginAnew({ at: bench.at, timeline: 1, to: lsn(5), why: 'the clock was set back' });
  await bench.store(5, 6, { reached: (number) => hour(number - 3) });
  bench.at = '2026-11-20T02:56:00.000Z';
  manifests.push(bench.base(5));
  const repository = bench.withSnapshots(manifests);
  const request = { source: 'db.postgres', signal, target: 'latest' as const };
  const { windows, ...found } = await findStart(repository, request, undefined);
  expect(windows.map(({ to }) => to).sort()).toEqual([hour(3), hour(4)]);
  expect(found).toMatchObject({ base: { snapshot: 'base-5' }, window: { to: hour(3) } });
});

test('WAL that needs a key is refused before anything is made', async () => {
  const bench = new WalBench();
  await bench.store(1, 2);
  const writer = await bench.open();
  const sealed = `${keyOf(nameOf(3))}.zst.age`;
  const stored = await bench.destination.put(sealed, streamOf('secret'));
  await writer.append({ segments: [{ name: nameOf(3), key: sealed, ...stored }] });
  const manifest = bench.base(2);
  const repository = {
    ...bench.repository,
    snapshots: async () => ({ snapshots: [{ manifest }], damaged: [] }),
    resolve: async () => ({ manifest }),
  } as unknown as Repository;
  const deps = { repository: async () => repository, remembered: async () => undefined };
  const request = { source: 'db.postgres', signal, target: 'latest' as const };
  await expect(findReadableStart(deps, request)).rejects.toMatchObject({ code: 'KEY_MISSING' });
});

test.each<[Target, string, [string, string] | undefined]>([
  ['latest', 'latest', undefined],
  [time('2026-11-20 05:00:00+00'), '2026-11-20 05:00:00+00', ['recovery_target_time', '2026-11-20 05:00:00+00']],
  [{ lsn: '0/3000060' }, 'position 0/3000060', ['recovery_target_lsn', '0/3000060']],
  [{ xid: '742' }, 'transaction 742', ['recovery_target_xid', '742']],
  [{ name: 'v2' }, 'restore point v2', ['recovery_target_name', 'v2']],
])('%j sets one target, and the server reads it last', (target, text, setting) => {
  expect(describeTarget(target)).toBe(text);
  const settings = targetSettings(target);
  // A position is where the next record begins.
  expect(settings[0]).toEqual(['recovery_target_inclusive', setting?.[0] === 'recovery_target_lsn' ? 'off' : 'on']);
  const points = settings.slice(1);
  expect(points).toHaveLength(4);
  expect(points.findIndex(([, value]) => value !== '')).toBe(setting ? 3 : -1);
  if (setting) expect(settings.at(-1)).toEqual(setting);
});
