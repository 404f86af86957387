import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/errors.ts';
import { findSnapshot } from '../../src/restore-find.ts';
import type { Repository } from '../../src/store/repository.ts';
import { Signing } from '../../src/store/signing.ts';

const error = { code: 'TREE_UNREADABLE', message: '19,000 files could not be read' };
const ID = { monday: '20261116T030000Z-aaaaaa', tuesday: '20261117T030000Z-aaaaaa', sunday: '20261115T030000Z-aaaaaa' };

/** Snapshots newest first, each with the status of its one source. */
function repositoryOf(...snapshots: [id: string, source: string, status: 'ok' | 'partial' | 'failed'][]): Repository {
  const manifests = snapshots.map(([id, source, status]) => ({
    manifest: {
      id,
      end: id,
      trigger: 'schedule',
      sources: { [source]: { status, warnings: [], ...(status === 'ok' ? {} : { error }) } },
    },
  }));
  return {
    signing: new Signing('repository'),
    snapshots: async () => ({ snapshots: manifests, damaged: [] }),
    resolve: async (name: string) => {
      const found = manifests.find(({ manifest }) => manifest.id === name);
      if (found) return found;
      throw new LifeboatError('SNAPSHOT_UNKNOWN', name);
    },
  } as unknown as Repository;
}

const find = async (repository: Repository, snapshot: string) => {
  const found = await findSnapshot(repository, { snapshot, source: 'web.media', unsigned: false });
  return { id: found.snapshot.id, notes: found.notes };
};

test('latest is the newest snapshot that has the whole source, and tells of a newer one that has a part', async () => {
  const repository = repositoryOf([ID.tuesday, 'web.media', 'partial'], [ID.monday, 'web.media', 'ok']);
  expect(await find(repository, 'latest')).toEqual({
    id: ID.monday,
    notes: [`${ID.tuesday} is newer but not whole, so it is left aside; name it to restore it`],
  });
  expect(await find(repository, ID.monday)).toEqual({ id: ID.monday, notes: [] });
});

test('whoever gets a part is told what is missing, whether it was asked for by name or is all there is', async () => {
  const gaps = { id: ID.tuesday, notes: ['not whole: 19,000 files could not be read (TREE_UNREADABLE)'] };
  const named = repositoryOf([ID.tuesday, 'web.media', 'partial'], [ID.monday, 'web.media', 'ok']);
  expect(await find(named, ID.tuesday)).toEqual(gaps);
  const neverWhole = repositoryOf([ID.tuesday, 'web.media', 'partial'], [ID.monday, 'web.media', 'partial']);
  expect(await find(neverWhole, 'latest')).toEqual(gaps);
});

test('latest looks past snapshots of other sources and of failures', async () => {
  const repository = repositoryOf(
    [ID.tuesday, 'db.postgres', 'ok'],
    [ID.monday, 'web.media', 'failed'],
    [ID.sunday, 'web.media', 'ok'],
  );
  expect(await find(repository, 'latest')).toEqual({ id: ID.sunday, notes: [] });
  const none = repositoryOf([ID.tuesday, 'db.postgres', 'ok']);
  await expect(find(none, 'latest')).rejects.toMatchObject({ code: 'SOURCE_UNKNOWN' });
});
