import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { silentLog } from '../../../src/base/log.ts';
import { check } from '../../../src/check/check.ts';
import { renderSourceStatuses } from '../../../src/commands/status-text.ts';
import { prune } from '../../../src/prune/prune.ts';
import { plainPaint } from '../../../src/report/paint.ts';
import { renderSnapshots } from '../../../src/report/terminal/listing.ts';
import { findSnapshot } from '../../../src/restore/find.ts';
import { vanishedSources } from '../../../src/run/history.ts';
import { listSourceStatuses } from '../../../src/run/source-status.ts';
import { chainBreaks, resolveSnapshot } from '../../../src/store/repository/chain.ts';
import { makeFailure } from '../../report/fixtures.ts';
import { RunBench } from '../../run/run-bench.ts';

/** Runs with a wrong clock: which snapshot is the newest, which are kept, and what is reported. */

const DAY = 86_400_000;
const NOON = Date.parse('2026-11-20T12:00:00Z');

let bench: RunBench;
beforeEach(() => {
  bench = new RunBench();
});
afterEach(() => bench.remove());

/** A run of agent a at a time in days from the first noon. */
async function runAt(day: number, over: Parameters<RunBench['run']>[1] = {}) {
  bench.now = new Date(NOON + day * DAY);
  return bench.run('a', over);
}

async function find(snapshot: string, signingKeys: string[] = []) {
  const repository = await bench.open(signingKeys);
  const request = { snapshot, source: 'config', unsigned: false, now: bench.now };
  const found = await findSnapshot(repository, request);
  return { id: found.snapshot.id, notes: found.notes };
}

async function stands() {
  const manifests = (await (await bench.open()).snapshots()).snapshots.map(({ manifest }) => manifest);
  const state = bench.state('a');
  const [results, accepted] = await Promise.all([state.results(), state.accepted()]);
  const all = listSourceStatuses({ plan: bench.plan, manifests, results, accepted, zone: 'UTC', now: bench.now });
  return {
    attention: all[0]?.attention,
    text: renderSourceStatuses(all, { now: bench.now, paint: plainPaint, unread: false }).join('\n'),
  };
}

/** Times of the snapshots, newest first. */
async function sequences() {
  return (await (await bench.open()).snapshots()).snapshots.map(({ manifest }) => manifest.sequence);
}

function pruneNow() {
  const state = bench.state('a');
  const { plan, now } = bench;
  return bench.open().then((repository) =>
    prune(
      {
        ...{ repository, plan, keep: { last: 1 }, state, journals: `${bench.root}/.none`, zone: 'UTC', log: silentLog },
        ...{
          now: () => now,
          clockJump: () => undefined,
          fence: async () => undefined,
          signal: new AbortController().signal,
        },
      },
      { dryRun: false },
    ),
  );
}

const jumped = (id: string) => expect.objectContaining({ code: 'CLOCK_JUMPED', severity: 'warning', subject: id });

describe('a clock that was ahead once', () => {
  test.each([[[]], [['a signing key of this test']]])('never makes `latest` stale', async (keys: string[]) => {
    const ahead = await runAt(20, { keys });
    const good = [];
    for (const day of [0, 1, 2]) good.push(await runAt(day, { keys }));
    expect(good.map(({ problems }) => problems)).toEqual([[jumped(ahead.id)], [], []]);
    expect(await find('latest', keys)).toEqual({ id: good[2]?.id, notes: [] });
    const repository = await bench.open(keys);
    expect((await resolveSnapshot(repository, 'latest', bench.now.getTime())).manifest.id).toBe(good[2]?.id);
    const { snapshots, damaged } = await repository.snapshots();
    expect(damaged).toEqual([]);
    expect(snapshots.map(({ manifest }) => manifest.id)).toEqual([...good.map(({ id }) => id).reverse(), ahead.id]);
    expect(chainBreaks(snapshots, [])).toEqual([]);
    const { signal } = new AbortController();
    vi.setSystemTime(bench.now);
    const checked = await check(repository, { readData: 0, spool: bench.root, signal });
    vi.useRealTimers();
    expect(checked).toMatchObject({ manifests: [], damaged: [], ahead: [ahead.id] });
    const rows = snapshots.map(({ manifest }) => ({ ...manifest, sources: [] }));
    const lines = renderSnapshots(rows, bench.now).split('\n');
    expect(lines[4]).toMatch(new RegExp(`^${ahead.id} +in 18 days +ok +schedule, dated in the future`));
    expect(lines.filter((line) => line.includes('future'))).toHaveLength(1);
  });

  test('and an agent whose clock is behind now finds the newest by the chain, and says that its date is wrong', async () => {
    await runAt(0);
    const newest = await runAt(20);
    bench.now = new Date(NOON + DAY);
    const note = `${newest.id} is dated in the future: a clock was wrong when it was made, or is wrong now`;
    expect(await find('latest')).toEqual({ id: newest.id, notes: [note] });
    expect(await find(newest.id)).toEqual({ id: newest.id, notes: [note] });
    const { attention, text } = await stands();
    expect(attention).toBe('ahead');
    expect(text).toMatch(/config +date ahead +in 19 days .*\n.*dated in the future/);
    await runAt(1);
    expect((await stands()).attention).toBe(null);
  });

  test('does not hide a later failure', async () => {
    await runAt(20);
    const failed = await runAt(0, { fails: makeFailure({ name: 'config', kind: 'files' }) });
    expect(failed.snapshot).toBeUndefined();
    expect((await stands()).attention).toBe('failed');
    await runAt(0.1);
    expect((await stands()).attention).toBe(null);
  });

  test('before a signing key was set, does not make its snapshot a forgery', async () => {
    const keys = ['a signing key of this test'];
    const ahead = await runAt(20);
    await runAt(0);
    const signed = await runAt(1, { keys });
    const { snapshots, damaged } = await (await bench.open(keys)).snapshots();
    expect(damaged).toEqual([]);
    expect(snapshots.at(-1)?.manifest.id).toBe(ahead.id);
    expect(await find('latest', keys)).toEqual({ id: signed.id, notes: [] });
  });

  test('with an unreadable manifest of that time does not prevent pruning; one that may be the newest does', async () => {
    const damage = (id: string) => writeFileSync(join(bench.root, 'shop', 'snapshots', id, 'manifest.json'), '{');
    await runAt(0);
    const ahead = await runAt(20);
    const behind = await runAt(-364);
    const newest = await runAt(1);
    damage(ahead.id);
    expect((await find('latest')).id).toBe(newest.id);
    // Lists and pins use the same order.
    const resolved = async () => {
      const repository = await bench.open();
      return resolveSnapshot(repository, 'latest', bench.now.getTime());
    };
    expect((await resolved()).manifest.id).toBe(newest.id);
    // By its date it is the oldest, but the chain does not place it among the old ones.
    const last = await runAt(-365);
    expect(last.id < behind.id).toBe(true);
    damage(last.id);
    bench.now = new Date(NOON + 2 * DAY);
    await expect(find('latest')).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    await expect(resolved()).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    const next = await runAt(2);
    expect((await find('latest')).id).toBe(next.id);
  });

  test('keeps what was accepted afterwards accepted, and not what came later', async () => {
    await runAt(0);
    await runAt(20);
    bench.now = new Date(NOON + DAY);
    expect(await stands()).toMatchObject({ attention: 'ahead' });
    const state = bench.state('a');
    const [sequence] = await sequences();
    await state.saveAccepted({ config: { at: bench.now.toISOString(), sequence: sequence ?? 0 } });
    const gone = { ...bench.plan, sources: [] };
    const vanished = async () => {
      const manifests = (await (await bench.open()).snapshots()).snapshots.map(({ manifest }) => manifest);
      return vanishedSources(manifests, gone, { accepted: await state.accepted() }).map(({ name }) => name);
    };
    expect(await vanished()).toEqual([]);
    await runAt(1);
    expect(await vanished()).toEqual(['config']);
  });

  test('does not disable pruning, and its snapshot displaces no other', async () => {
    await runAt(20);
    for (const day of [0, 1, 2, 3]) await runAt(day);
    bench.later(60_000);
    const { decisions } = await pruneNow();
    // The second newest stays until a newer snapshot is a day old.
    expect(decisions.map(({ keep, always }) => [keep, ...always])).toEqual([
      [true, 'less than a day old'],
      [true, 'no newer one is a day old'],
      [false],
      [false],
      [true, 'dated in the future'],
    ]);
  });
});

describe('a clock that was behind once', () => {
  test('its snapshot is the newest, and is not removed within a day of its creation', async () => {
    await runAt(0);
    const yesterday = await runAt(1);
    const behind = await runAt(-364);
    bench.now = new Date(NOON + 2 * DAY);
    expect((await find('latest')).id).toBe(behind.id);
    const now = await runAt(2);
    expect(now.problems).toEqual([]);
    bench.later(10_000);
    const kept = async () => (await pruneNow()).decisions.filter(({ keep }) => keep).map(({ id }) => id);
    expect(await kept()).toEqual([now.id, behind.id, yesterday.id]);
    expect(await kept()).toEqual([now.id, behind.id, yesterday.id]);
    bench.later(DAY);
    expect(await kept()).toEqual([now.id]);
  });

  test('while it is behind, nothing is removed, and its runs continue the chain', async () => {
    await runAt(0);
    const last = await runAt(1);
    const first = await runAt(-364);
    expect(first.problems).toEqual([jumped(last.id)]);
    const second = await runAt(-363);
    expect(second.problems).toEqual([]);
    expect((await find('latest')).id).toBe(second.id);
    expect((await pruneNow()).snapshots).toBe(0);
    expect(await sequences()).toEqual([4, 3, 2, 1]);
  });
});
