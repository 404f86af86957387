import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { hostLines } from '../../src/commands/status-text.ts';
import { type HostState, isTroubled, readHosts } from '../../src/overview/hosts.ts';
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
          ...{ name: 'db', status: 'failed', newest: '2026-11-28T03:00:00.000Z', usualMs: null, attention: null },
          lastGood: { snapshot: 's27', at: '2026-11-27T03:00:00.000Z', bytes: 7 },
        },
        {
          ...{ name: 'web', status: 'partial', newest: '2026-11-27T03:00:00.000Z', usualMs: null, attention: null },
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
