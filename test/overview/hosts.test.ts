import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { isTroubled, readHosts } from '../../src/overview/hosts.ts';
import type { Manifest, ManifestSource } from '../../src/store/objects/manifest.ts';
import type { Repository } from '../../src/store/repository/repository.ts';

const NOW = new Date('2026-11-28T12:00:00Z');

/** A snapshot of November, with the status of each source. */
function manifest(day: number, sources: Record<string, string>, trigger = 'schedule'): Manifest {
  const end = `2026-11-${day}T03:00:00.000Z`;
  const entries = Object.entries(sources).map(([name, status]) => [name, { status, bytes: 7 } as ManifestSource]);
  return { id: `s${day}`, end, trigger, sources: Object.fromEntries(entries) } as unknown as Manifest;
}

function read(projects: Record<string, Manifest[] | LifeboatError>) {
  const open = async (project: string) => {
    const found = projects[project];
    if (found instanceof LifeboatError) throw found;
    return {
      snapshots: async () => ({ snapshots: found?.map((one) => ({ manifest: one })) }),
    } as unknown as Repository;
  };
  return readHosts(Object.keys(projects), open, { now: NOW, signal: AbortSignal.timeout(60_000) });
}

describe('the state of all hosts', () => {
  test('has each project with its sources, also those that its newest snapshot lacks', async () => {
    const [a, b] = await read({
      b: [manifest(28, { web: 'ok' }), manifest(27, { web: 'ok' })],
      a: [manifest(28, { db: 'failed' }), manifest(27, { db: 'ok', web: 'partial' })],
    });
    expect(a).toEqual({
      ...{ project: 'a', newest: '2026-11-28T03:00:00.000Z', late: false },
      sources: [
        { name: 'db', status: 'failed', lastGood: { snapshot: 's27', at: '2026-11-27T03:00:00.000Z', bytes: 7 } },
        {
          ...{ name: 'web', status: 'partial' },
          lastGood: { snapshot: 's27', at: '2026-11-27T03:00:00.000Z', partial: true, bytes: 7 },
        },
      ],
    });
    expect([a, b].map((one) => one && isTroubled(one))).toEqual([true, false]);
  });

  test('notices an agent that stores nothing any more, by how often it did', async () => {
    const hosts = await read({
      daily: [manifest(25, { a: 'ok' }), manifest(24, { a: 'ok' })],
      weekly: [manifest(22, { a: 'ok' }), manifest(15, { a: 'ok' })],
      once: [manifest(10, { a: 'ok' })],
      // A safety snapshot is not what the schedule makes.
      restored: [manifest(28, { a: 'ok' }, 'safety'), manifest(25, { a: 'ok' }), manifest(24, { a: 'ok' })],
    });
    expect(hosts.filter(({ late }) => late).map(({ project }) => project)).toEqual(['daily', 'restored']);
  });

  test('a project that cannot be read does not keep the others from being read', async () => {
    const broken = new LifeboatError('OBJECT_DAMAGED', 'the manifest is damaged');
    const [bad, good] = await read({ a: broken, b: [manifest(28, { web: 'ok' })] });
    expect(bad).toMatchObject({ project: 'a', newest: null, error: { code: 'OBJECT_DAMAGED' } });
    expect(bad && isTroubled(bad)).toBe(true);
    expect(good?.sources).toHaveLength(1);
  });
});
