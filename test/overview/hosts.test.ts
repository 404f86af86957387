import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { hostLines } from '../../src/commands/status-text.ts';
import { type HostState, isTroubled, readHosts } from '../../src/overview/hosts.ts';
import { decideKept, type KeepSnapshot } from '../../src/plan/keep.ts';
import { parseKeep } from '../../src/plan/retention.ts';
import { plainPaint } from '../../src/report/paint.ts';
import type { Manifest, ManifestSource } from '../../src/store/objects/manifest.ts';
import type { Repository, SnapshotList } from '../../src/store/repository/repository.ts';

const NOW = new Date('2026-11-28T12:00:00Z');

/** A snapshot of November 2026, with the status of each source. A day may be beyond November. */
function manifest(day: number, sources: Record<string, string>, trigger = 'schedule'): Manifest {
  const end = new Date(Date.UTC(2026, 10, day, 3)).toISOString();
  const entries = Object.entries(sources).map(([name, status]) => [name, { status, bytes: 7 } as ManifestSource]);
  return { id: `s${day}`, end, trigger, sources: Object.fromEntries(entries) } as unknown as Manifest;
}

/** Daily or weekly snapshots of a source, the newest first. */
function series(newest: number, count: number, every = 1): Manifest[] {
  return Array.from({ length: count }, (_, i) => manifest(newest - i * every, { a: 'ok' }));
}

/** What retention reads of a snapshot. */
function forRetention({ id, end }: Manifest, index: number): KeepSnapshot {
  const at = Date.parse(end);
  return { id, start: at, end: at, sequence: 1000 - index, safety: false, sources: { a: { status: 'ok' } } };
}

type Part = Manifest | SnapshotList['damaged'][number] | { unsigned: Manifest };

function read(projects: Record<string, Part[] | LifeboatError>) {
  const open = async (project: string) => {
    const found = projects[project];
    if (found instanceof LifeboatError) throw found;
    const list: SnapshotList = { snapshots: [], damaged: [] };
    for (const part of found ?? []) {
      if ('error' in part) list.damaged.push(part);
      else if ('unsigned' in part) list.snapshots.push({ manifest: part.unsigned, hash: '', unsigned: true });
      else list.snapshots.push({ manifest: part, hash: '' });
    }
    return { snapshots: async () => list } as unknown as Repository;
  };
  return readHosts(Object.keys(projects), open, { now: NOW, signal: AbortSignal.timeout(60_000) });
}

/** Of a source without a schedule, and with too few snapshots. */
const RHYTHM = { schedule: null, usualMs: null };

const linesOf = (host: HostState | undefined) => (host ? hostLines(host, NOW, plainPaint) : []);

describe('the state of all hosts', () => {
  test('has each project with its sources, also those that its newest snapshot lacks', async () => {
    const [a, b] = await read({
      b: [manifest(28, { web: 'ok' }), manifest(27, { web: 'ok' })],
      a: [manifest(28, { db: 'failed' }), manifest(27, { db: 'ok', web: 'partial' })],
    });
    expect(a).toEqual({
      ...{ project: 'a', newest: '2026-11-28T03:00:00.000Z', late: false, damaged: [] },
      sources: [
        {
          ...{ name: 'db', status: 'failed', newest: '2026-11-28T03:00:00.000Z', ...RHYTHM, attention: null },
          lastGood: { snapshot: 's27', at: '2026-11-27T03:00:00.000Z', bytes: 7 },
        },
        {
          ...{ name: 'web', status: 'partial', newest: '2026-11-27T03:00:00.000Z', ...RHYTHM, attention: null },
          lastGood: { snapshot: 's27', at: '2026-11-27T03:00:00.000Z', partial: true, bytes: 7 },
        },
      ],
    });
    expect([a, b].map((one) => one && isTroubled(one))).toEqual([true, false]);
  });

  test('notices an agent that stores nothing any more, by how often it did', async () => {
    const hosts = await read({
      daily: series(25, 5),
      'daily, in time': series(27, 5),
      weekly: series(22, 3, 7),
      // One long outage says nothing about the schedule.
      'daily, after an outage': [...series(25, 3), ...series(-8, 4)],
      once: series(10, 1),
      'once, a day ago': series(27, 1),
      // A safety snapshot is not what the schedule makes.
      restored: [manifest(28, { a: 'ok' }, 'safety'), ...series(25, 3)],
    });
    const late = hosts.filter((one) => one.late);
    expect(late.map(({ project }) => project)).toEqual(['daily', 'daily, after an outage', 'once', 'restored']);
    expect(hosts.filter(isTroubled)).toEqual(late);
    const usual = Object.fromEntries(hosts.map(({ project, sources }) => [project, sources[0]?.usualMs]));
    expect(usual).toMatchObject({ daily: 86_400_000, weekly: 7 * 86_400_000, once: null });
    expect(linesOf(hosts[0])).toContain(
      '  ! a: no snapshot for 3 days, usually every 24h. Does its Lifeboat still run?',
    );
    expect(linesOf(late[2])).toContain('  ! a: no snapshot for 18 days, rhythm unknown. Does its Lifeboat still run?');
  });

  /** Snapshots on these days of November 2026, with a schedule. */
  const scheduled = (cron: string, days: readonly number[], trigger = 'schedule', zone = 'UTC') =>
    days.map((day) => {
      const one = manifest(day, { a: 'ok' }, trigger);
      return { ...one, sources: { a: { ...one.sources.a, schedule: { cron, zone } } as ManifestSource } };
    });

  test('judges a source by its schedule, if a snapshot names it', async () => {
    // The 28th is a Saturday.
    const hosts = await read({
      'on weekdays': scheduled('0 3 * * 1-5', [27, 26, 25, 24, 23]),
      'on weekdays, late': scheduled('0 3 * * 1-5', [25, 24, 23, 20]),
      'only once': scheduled('0 3 * * 1', [23]),
      'only once, late': scheduled('0 3 * * *', [26]),
      // The second one since then is due at 03:00 in Berlin, and that has passed.
      'of another zone': scheduled('0 4 * * *', [27], 'schedule', 'Europe/Berlin'),
      // Nothing follows the schedule that it has.
      'by hand': scheduled('0 3 * * *', [21, 14, 7, 0], 'manual'),
      'of another version': scheduled('every full moon', [27, 26, 25]),
      'in an unknown zone': scheduled('0 3 * * *', [27, 26, 25], 'schedule', 'Mars/Olympus'),
    });
    expect(hosts.filter(({ late }) => late).map(({ project }) => project)).toEqual([
      'on weekdays, late',
      'only once, late',
    ]);
    expect(linesOf(hosts.find(({ project }) => project === 'on weekdays, late'))).toContain(
      '  ! a: no snapshot for 3 days, scheduled for `0 3 * * 1-5`. Does its Lifeboat still run?',
    );
  });

  test('a source whose backups follow each other without a pause is not late', async () => {
    const every = (hours: number, since: number) =>
      [0, 1, 2, 3].map((i) => {
        const [one] = scheduled('*/15 * * * *', [28]);
        const end = new Date(NOW.getTime() - (since + i * hours) * 3_600_000).toISOString();
        return { ...(one as Manifest), id: `s${i}`, end };
      });
    const hosts = await read({
      'each takes eight hours': every(8, 11),
      'each takes eight hours, and none came': every(8, 13),
      'each takes minutes': every(0.25, 7),
    });
    expect(hosts.filter(({ late }) => late).map(({ project }) => project)).toEqual([
      'each takes eight hours, and none came',
      'each takes minutes',
    ]);
  });

  test.each(['7d 4w 12m', '3d 4w 12m', '1d 12m', 'last 2 4w', 'within 48h 12m'])(
    'notices that a nightly backup stopped three days ago, after retention %s',
    async (keep) => {
      const nights = series(25, 200);
      const policy = parseKeep(keep);
      if (!('value' in policy)) throw new Error(keep);
      const rules = new Map([['a', { policy: policy.value }]]);
      const now = Date.parse(nights[0]?.end ?? '') + 60_000;
      const kept = decideKept(nights.map(forRetention), rules, { zone: 'UTC', now }).filter(({ keep: it }) => it);
      const ids = new Set(kept.map(({ id }) => id));
      expect(ids.size).toBeLessThan(30);
      const [host] = await read({ a: nights.filter(({ id }) => ids.has(id)) });
      expect(host?.sources[0]).toMatchObject({ attention: 'late', usualMs: 86_400_000 });
    },
  );

  test('backups by hand are no schedule, unless there are no others', async () => {
    const byHand = (hours: readonly number[]) =>
      hours.map((hour) => {
        const end = new Date(NOW.getTime() - hour * 3_600_000).toISOString();
        return { ...manifest(28, { a: 'ok' }, 'manual'), id: `m${hour}`, end };
      });
    const day = [10, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 10.7, 10.8];
    const hosts = await read({
      'many on a day': byHand(day),
      'many on a day, and a schedule': [...byHand(day), ...series(27, 5)],
      weekly: byHand([150, 318, 486, 654]),
      'weekly, late': byHand([350, 518, 686]),
    });
    expect(hosts.filter(isTroubled).map(({ project }) => project)).toEqual(['weekly, late']);
  });

  test('judges each source by its own snapshots', async () => {
    const web = Array.from({ length: 20 }, (_, i) => manifest(28 - i, { web: 'ok', ...(i > 5 ? { db: 'ok' } : {}) }));
    const [host] = await read({ shop: web });
    expect(host?.sources.map(({ name, attention }) => [name, attention])).toEqual([
      ['db', 'late'],
      ['web', null],
    ]);
    expect(host && isTroubled(host)).toBe(true);
  });

  test('notices a project with no backup, a damaged or an unsigned one, or one of the future', async () => {
    const error = new LifeboatError('OBJECT_DAMAGED', 'the manifest x\u001b[31m is damaged');
    const hosts = await read({
      ahead: series(40, 3),
      'all damaged': [{ id: 'x', error }],
      'newest damaged': [{ id: 'x', error }, ...series(28, 3)],
      'only safety': [manifest(28, { a: 'ok' }, 'safety')],
      unsigned: series(28, 3).map((one) => ({ unsigned: one })),
      // These are from before the signing key was set.
      'z signed': [...series(28, 3), { unsigned: manifest(20, { a: 'ok' }) }],
    });
    expect(hosts.filter((one) => !isTroubled(one)).map(({ project }) => project)).toEqual(['z signed']);
    expect(linesOf(hosts[0])[2]).toContain('a: the newest snapshot is dated in the future');
    expect(linesOf(hosts[1])).toEqual([
      'all damaged · no snapshot',
      '  ! the manifest x�[31m is damaged (OBJECT_DAMAGED)',
    ]);
    expect(hosts[4]?.damaged.map(({ code }) => code)).toEqual(['SIGNATURE_MISSING']);
  });

  test('a project that cannot be read does not keep the others from being read', async () => {
    const broken = new LifeboatError('OBJECT_DAMAGED', 'the manifest is damaged');
    const [bad, good] = await read({ a: broken, b: [manifest(28, { web: 'ok' })] });
    expect(bad).toMatchObject({ project: 'a', newest: null, error: { code: 'OBJECT_DAMAGED' } });
    expect(bad && isTroubled(bad)).toBe(true);
    expect(good?.sources).toHaveLength(1);
  });
});
