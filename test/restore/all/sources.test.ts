import { expect, test } from 'vitest';
import { chooseSources } from '../../../src/restore/all/sources.ts';
import type { RestoreDeps } from '../../../src/restore/context.ts';

const { signal } = new AbortController();
const MONDAY = '20261116T030000Z-aaaaaa';
const TUESDAY = '20261117T030000Z-aaaaaa';

interface Choice {
  snapshot?: string;
  accepted?: object;
  otherRepository?: boolean;
  isCopy?: boolean;
  only?: string[];
}

/** Chooses sources, for snapshots given newest first. */
async function chooseAll(
  snapshots: { id: string; sources: Record<string, string>; trigger?: string }[],
  { snapshot = 'latest', accepted = {}, otherRepository = false, isCopy = false, only }: Choice = {},
) {
  const stored = snapshots.map(({ id, sources, trigger = 'schedule' }, index) => ({
    manifest: {
      id,
      end: id,
      sequence: snapshots.length - index,
      trigger,
      sources: Object.fromEntries(
        Object.entries(sources).map(([name, kind]) => [name, { kind, status: 'ok', index: {} }]),
      ),
    },
  }));
  const deps = {
    ...{ otherRepository, isCopy },
    plan: async () => ({ sources: [{ name: 'db.postgres', kind: 'postgres' }] }),
    state: { accepted: async () => accepted },
    repository: async () => ({
      snapshots: async () => ({ snapshots: stored, damaged: [] }),
      resolve: async (id: string) => stored.find(({ manifest }) => manifest.id === id),
    }),
  } as unknown as RestoreDeps;
  return chooseSources(deps, { snapshot, signal, ...(only ? { only } : {}) });
}

/** Returns the names that are restored. */
async function choose(...[snapshots, choice]: Parameters<typeof chooseAll>) {
  return (await chooseAll(snapshots, choice)).names;
}

const all = { 'db.postgres': 'postgres', 'web.media': 'volume', 'old.media': 'volume' };

test('latest means the newest data of every source, also after a backup of a single source', async () => {
  const one = { id: TUESDAY, sources: { 'db.postgres': 'postgres' }, trigger: 'manual' };
  const snapshots = [one, { id: MONDAY, sources: all }];
  expect(await choose(snapshots)).toEqual(['db.postgres', 'old.media', 'web.media']);
  const accepted = { 'old.media': { at: '2026-11-18T00:00:00Z', sequence: 2, losses: ['gone'] } };
  expect(await choose(snapshots, { accepted })).toEqual(['db.postgres', 'web.media']);
  // What was accepted is about the agent's own repository.
  expect(await choose(snapshots, { accepted, otherRepository: true })).toContain('old.media');
  expect(await choose(snapshots, { snapshot: TUESDAY })).toEqual(['db.postgres']);
  expect(await choose(snapshots, { snapshot: MONDAY, accepted })).toContain('old.media');
});

test('a safety snapshot does not bring back a source that is gone', async () => {
  const snapshots = [{ id: MONDAY, sources: all, trigger: 'safety' }];
  expect(await choose(snapshots)).toEqual(['db.postgres']);
});

test('names and patterns select sources, and a word that selects none is refused', async () => {
  const snapshots = [{ id: MONDAY, sources: { ...all, 'web.cache': 'volume', config: 'files' } }];
  expect(await choose(snapshots, { only: ['web.*', 'db.postgres'] })).toEqual([
    'db.postgres',
    'web.cache',
    'web.media',
  ]);
  expect(await choose(snapshots, { only: ['{web,old}.media'] })).toEqual(['old.media', 'web.media']);
  expect(await choose(snapshots, { only: ['config'] })).toEqual([]);
  // An error before the lock is taken: nothing is stopped or replaced.
  await expect(choose(snapshots, { only: ['web.media', 'wbe.*'] })).rejects.toMatchObject({
    ...{ code: 'SOURCE_UNKNOWN', message: 'no source is named wbe.*' },
  });
});

test('base backups are for a recovery to a point in time, and the dump of their server is restored instead', async () => {
  const snapshots = [{ id: MONDAY, sources: { ...all, 'db.postgres.base': 'base' } }];
  expect(await choose(snapshots)).toEqual(['db.postgres', 'old.media', 'web.media']);
  expect(await choose(snapshots, { only: ['db.*'] })).toEqual(['db.postgres']);
});

test('a source that a later scheduled run lacks, and that no service has, stays unchanged on a new host', async () => {
  const retired = { id: MONDAY, sources: { ...all, 'old.files': 'volume' } };
  const later = { id: TUESDAY, sources: { 'db.postgres': 'postgres', 'web.media': 'volume' } };
  const { names, unchanged } = await chooseAll([later, retired], { otherRepository: true });
  expect(names).toEqual(['db.postgres', 'web.media']);
  expect(unchanged.map(({ source }) => source)).toEqual(['old.files', 'old.media']);
  expect(unchanged[0]?.reason).toContain('restore it alone');
  // A run of some sources says nothing about the others.
  const some = { id: TUESDAY, sources: { 'web.media': 'volume' } };
  expect(await choose([some, retired])).toContain('old.media');
  expect(await choose([{ ...later, trigger: 'manual' }, retired])).toContain('old.media');
  expect(await choose([later, retired], { snapshot: MONDAY })).toContain('old.media');
});

test('in a copy, sources of other projects stay unchanged', async () => {
  const snapshots = [{ id: MONDAY, sources: { ...all, 'blog.db.postgres': 'postgres', 'db.postgres.base': 'base' } }];
  const { names, unchanged } = await chooseAll(snapshots, { isCopy: true });
  expect(names).toEqual(['db.postgres', 'old.media', 'web.media']);
  expect(unchanged).toEqual([{ source: 'blog.db.postgres', reason: 'it belongs to another project' }]);
  expect(await choose(snapshots)).toContain('blog.db.postgres');
});
