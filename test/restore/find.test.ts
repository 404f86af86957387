import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { findSnapshot, withoutSource } from '../../src/restore/find.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { Signing } from '../../src/store/repository/signing.ts';

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
    project: 'shop',
    destination: { name: '/backups', list: async function* () {} },
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

test('latest is not known if the chain ends before a snapshot that the agent has seen; a snapshot named by id is restored', async () => {
  const repository = repositoryOf([ID.monday, 'web.media', 'ok']);
  const lost = { sequence: 7, id: ID.tuesday, hash: '' };
  const look = { source: 'web.media', unsigned: false };
  const { snapshots } = await repository.snapshots();
  const gone = Object.assign(repository, {
    destination: { name: '/backups' },
    snapshots: async () => ({ snapshots, damaged: [{ id: lost.id, lost, error: new Error('gone') }] }),
  });
  await expect(findSnapshot(gone, { snapshot: 'latest', ...look })).rejects.toMatchObject({ code: 'CHAIN_BROKEN' });
  expect((await findSnapshot(gone, { snapshot: ID.monday, ...look })).snapshot.id).toBe(ID.monday);
});

test('latest is the newest snapshot that has the whole source, and notes a newer one that has a part', async () => {
  const repository = repositoryOf([ID.tuesday, 'web.media', 'partial'], [ID.monday, 'web.media', 'ok']);
  expect(await find(repository, 'latest')).toEqual({
    id: ID.monday,
    notes: [`${ID.tuesday} is newer but not whole, so it is not used; name it to restore it`],
  });
  expect(await find(repository, ID.monday)).toEqual({ id: ID.monday, notes: [] });
});

test('latest under the old name of a shared volume is refused, and names the present name; an id is restored', async () => {
  const repository = repositoryOf([ID.tuesday, 'app.media', 'ok'], [ID.monday, 'web.media', 'ok']);
  const under = (snapshot: string, storedAs: string) =>
    findSnapshot(repository, { snapshot, source: 'web.media', unsigned: false, storedAs });
  await expect(under('latest', 'app.media')).rejects.toMatchObject({
    code: 'SOURCE_UNKNOWN',
    message: 'the volume of web.media is backed up as app.media',
    hint: expect.stringContaining('latest app.media'),
  });
  expect((await under(ID.monday, 'app.media')).snapshot.id).toBe(ID.monday);
  // Nothing is stored under the present name yet, or the snapshots under it are older.
  expect((await under('latest', 'other.media')).snapshot.id).toBe(ID.monday);
});

test('the notes of a partial snapshot say what is missing, whether it was named or is the only one', async () => {
  const gaps = { id: ID.tuesday, notes: ['not whole: 19,000 files could not be read (TREE_UNREADABLE)'] };
  const named = repositoryOf([ID.tuesday, 'web.media', 'partial'], [ID.monday, 'web.media', 'ok']);
  expect(await find(named, ID.tuesday)).toEqual(gaps);
  const neverWhole = repositoryOf([ID.tuesday, 'web.media', 'partial'], [ID.monday, 'web.media', 'partial']);
  expect(await find(neverWhole, 'latest')).toEqual(gaps);
});

test('latest skips snapshots of other sources and failed ones', async () => {
  const repository = repositoryOf(
    [ID.tuesday, 'db.postgres', 'ok'],
    [ID.monday, 'web.media', 'failed'],
    [ID.sunday, 'web.media', 'ok'],
  );
  expect(await find(repository, 'latest')).toEqual({ id: ID.sunday, notes: [] });
  const none = repositoryOf([ID.tuesday, 'db.postgres', 'ok']);
  await expect(find(none, 'latest')).rejects.toMatchObject({ code: 'SOURCE_UNKNOWN' });
});

/** Snapshots of a server, newest first: which databases each holds, and which it lacks. */
function serverOf(...snapshots: { id: string; stored: string[]; missing?: string[] }[]): Repository {
  const repository = repositoryOf(
    ...snapshots.map(({ id, missing = [] }): [string, string, 'ok' | 'partial'] => [
      id,
      'db.postgres',
      missing.length > 0 ? 'partial' : 'ok',
    ]),
  );
  return {
    ...repository,
    snapshots: async () => {
      const list = await repository.snapshots();
      list.snapshots.forEach(({ manifest }, i) => {
        const { stored = [], missing = [] } = snapshots[i] ?? {};
        manifest.sequence = snapshots.length - i;
        Object.assign(manifest.sources['db.postgres'] as object, {
          databases: [
            ...stored.map((name) => ({ name, status: 'ok' })),
            ...missing.map((name) => ({
              name,
              status: 'failed',
              error: { code: 'PG_DUMP_FAILED', message: 'broken' },
            })),
          ],
        });
      });
      return list;
    },
  };
}

const findDatabase = async (repository: Repository, snapshot: string, database?: string) => {
  await repository.snapshots();
  const of = { source: 'db.postgres', unsigned: false, ...(database === undefined ? {} : { database }) };
  const found = await findSnapshot(repository, { snapshot, ...of });
  return { id: found.snapshot.id, notes: found.notes };
};

test('for one database, latest is the newest snapshot that holds it, whatever else is missing there', async () => {
  const repository = serverOf(
    { id: ID.tuesday, stored: ['app'], missing: ['blog'] },
    { id: ID.monday, stored: ['blog'], missing: ['app'] },
    { id: ID.sunday, stored: ['app', 'blog'] },
  );
  expect(await findDatabase(repository, 'latest', 'app')).toEqual({ id: ID.tuesday, notes: [] });
  expect(await findDatabase(repository, 'latest', 'blog')).toEqual({
    id: ID.monday,
    notes: [`${ID.tuesday} is newer and does not hold database blog, so it is not used`],
  });
  await expect(findDatabase(repository, 'latest')).rejects.toMatchObject({
    code: 'SNAPSHOT_PARTIAL',
    message: `${ID.tuesday} is the newest snapshot of db.postgres and lacks databases that older ones hold: blog (broken)`,
    hint: [
      `Nothing was changed. Choose: \`lifeboat restore ${ID.tuesday} db.postgres\` restores app and leaves the others as they are.`,
      `\`lifeboat restore ${ID.monday} db.postgres --database blog\` restores blog from ${ID.monday}.`,
      `\`lifeboat restore ${ID.sunday} db.postgres\` takes all databases of ${ID.sunday} back to that time.`,
    ].join(' '),
  });
  const elsewhere = { from: "/back ups/it's", project: 'shop', unsigned: true };
  await expect(
    findSnapshot(repository, { snapshot: 'latest', source: 'db.postgres', ...elsewhere }),
  ).rejects.toMatchObject({
    hint: expect.stringContaining(
      `\`lifeboat restore ${ID.sunday} db.postgres --from '/back ups/it'\\''s' --project shop --unsigned\``,
    ),
  });
  // Looking changes nothing, so no choice is necessary.
  const look = { snapshot: 'latest', source: 'db.postgres', unsigned: false, lookOnly: true };
  expect((await findSnapshot(repository, look)).snapshot.id).toBe(ID.tuesday);
  await expect(findDatabase(repository, ID.tuesday, 'blog')).rejects.toMatchObject({
    code: 'PG_DATABASE_UNKNOWN',
    message: `snapshot ${ID.tuesday} does not hold database blog: broken`,
    hint: `Snapshot ${ID.monday} is the last before it that does.`,
  });
  expect(await findDatabase(repository, ID.tuesday)).toEqual({
    id: ID.tuesday,
    notes: [
      'not whole: 19,000 files could not be read (TREE_UNREADABLE)',
      `database blog is in ${ID.monday}: restore it from there, with --database`,
    ],
  });
});

test('latest is the newest snapshot of a server if no other holds the databases that it lacks', async () => {
  const never = serverOf({ id: ID.tuesday, stored: ['app'], missing: ['blog'] }, { id: ID.monday, stored: ['app'] });
  expect(await findDatabase(never, 'latest')).toEqual({
    id: ID.tuesday,
    notes: ['not whole: 19,000 files could not be read (TREE_UNREADABLE)'],
  });
});

test('the choices name a whole snapshot only if there is one, name a few of many databases, and quote names for a shell', async () => {
  const many = Array.from({ length: 9 }, (_, i) => `d${i}`);
  const repository = serverOf(
    { id: ID.tuesday, stored: ['app'], missing: ['a b', ...many] },
    { id: ID.monday, stored: ['a b', ...many], missing: ['app'] },
  );
  const refused = await findDatabase(repository, 'latest').catch((error: unknown) => error as LifeboatError);
  expect(refused).toMatchObject({ code: 'SNAPSHOT_PARTIAL' });
  const { message, hint } = refused as LifeboatError;
  expect(message).toMatch(/a b \(broken\), d0 .* and 5 more$/);
  expect(hint).toContain("--database 'a b'`");
  expect(hint).not.toContain('d4');
  expect(hint).not.toContain('takes all');
});

test('a database that allowed no connections stops no restore of the others, and its last snapshot is named', async () => {
  const repository = serverOf({ id: ID.tuesday, stored: ['app'] }, { id: ID.monday, stored: ['app', 'blog'] });
  const { snapshots } = repository;
  const error = { code: 'PG_DATABASE_UNKNOWN', message: 'db has a database blog, but it allows no connections' };
  repository.snapshots = async () => {
    const list = await snapshots();
    list.snapshots[0]?.manifest.sources['db.postgres']?.databases?.push({
      name: 'blog',
      status: 'closed',
      error,
    } as never);
    return list;
  };
  expect(await findDatabase(repository, 'latest')).toEqual({
    id: ID.tuesday,
    notes: [
      'database blog was not stored: nobody could connect to it',
      `database blog is in ${ID.monday}: restore it from there, with --database`,
    ],
  });
  expect((await findDatabase(repository, 'latest', 'blog')).id).toBe(ID.monday);
});

test('a restore without a source lists the sources of all snapshots, or says that the operand is one', async () => {
  const repository = repositoryOf([ID.tuesday, 'db.postgres.base', 'ok'], [ID.monday, 'db.postgres', 'ok']);
  const { snapshots } = await repository.snapshots();
  expect(withoutSource('latest', snapshots)).toMatchObject({
    code: 'USAGE',
    message: 'name a source, or use --all',
    hint: 'The sources are: db.postgres, db.postgres.base.',
  });
  expect(withoutSource('db.postgres', snapshots)).toMatchObject({
    code: 'USAGE',
    message: 'db.postgres is a source, not a snapshot',
    hint: expect.stringContaining('`lifeboat restore latest db.postgres`'),
  });
});
