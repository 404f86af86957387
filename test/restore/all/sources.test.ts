import { expect, test } from 'vitest';
import { chooseSources } from '../../../src/restore/all/sources.ts';
import type { RestoreDeps, RestoreRequest } from '../../../src/restore/context.ts';

const MONDAY = '20261116T030000Z-aaaaaa';
const TUESDAY = '20261117T030000Z-aaaaaa';

/** Returns the names that are restored, for snapshots given newest first. */
async function choose(
  snapshots: { id: string; sources: Record<string, string>; trigger?: string }[],
  { snapshot = 'latest', accepted = {}, otherRepository = false } = {},
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
    otherRepository,
    plan: async () => ({ sources: [{ name: 'db.postgres', kind: 'postgres' }] }),
    state: { accepted: async () => accepted },
    repository: async () => ({
      snapshots: async () => ({ snapshots: stored, damaged: [] }),
      resolve: async (id: string) => stored.find(({ manifest }) => manifest.id === id),
    }),
  } as unknown as RestoreDeps;
  return (await chooseSources(deps, { snapshot } as RestoreRequest)).names;
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
