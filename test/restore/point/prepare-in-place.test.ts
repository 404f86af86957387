import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../../src/base/log.ts';
import type { Mount } from '../../../src/plan/model.ts';
import { prepareInPlace } from '../../../src/restore/point/prepare-in-place.ts';
import { refuseDamaged } from '../../../src/restore/point/refuse-in-place.ts';
import { appendJournal } from '../../../src/run/journal.ts';
import { scratchBase } from '../../store/helpers.ts';

/** What a recovery in place refuses before it begins. */

const { signal } = new AbortController();
const GIB = 1024 ** 3;
const data: Mount = {
  ...{ type: 'volume', name: 'shop_db', source: '/x', destination: '/var/lib/postgresql/data', writable: true },
};
const inside = (destination: string, kind?: 'file'): Mount => ({
  ...{ type: 'volume', name: 'wal', source: '/y', destination, writable: true },
  ...(kind ? { kind } : {}),
});

let directory: string;
/** what is different in a test */
let facts: {
  mounts: Mount[];
  /** of the server in use; undefined: it does not answer */
  live: { versionNumber: number; dataDirectory: string; systemId: string } | undefined;
  imageId: string;
  free: number;
  /** where a link at pg_wal leads; undefined: it is a directory */
  walLink: string | undefined;
  /** names of running containers of other projects with the same mounts */
  others: string[];
};
beforeEach(() => {
  directory = mkdtempSync(path.join(scratchBase, 'lifeboat-in-place-'));
  facts = {
    mounts: [data],
    live: { versionNumber: 170_002, dataDirectory: '/var/lib/postgresql/data', systemId: '1' },
    ...{ imageId: 'sha256:17', free: 100 * GIB, others: [], walLink: undefined },
  };
});
afterEach(() => rmSync(directory, { recursive: true }));

const container = {
  ...{ id: 'one', name: 'shop-db-1', running: true, paused: false },
  labels: { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'db' },
};

/** Prepares a recovery of the base backup of a server of Postgres 17.1. */
async function prepare() {
  const { mounts, live, imageId, free, others, walLink } = facts;
  const containers = [container, ...others.map((name) => ({ ...container, id: name, name, labels: {} }))];
  const server = {
    ...{ kind: 'postgres', name: 'db.postgres', project: 'shop', service: 'db', containerId: 'one', imageId, mounts },
    ...{ containerName: 'shop-db-1', schedule: '@daily', keep: {}, dataDirectories: ['/var/lib/postgresql/data'] },
  };
  const session = { versionNumber: live?.versionNumber, one: async () => live };
  const difference = { needed: 2 * GIB, free, present: { bytes: 3 * GIB, files: 7 } };
  const deps = {
    ...{ project: 'shop', journals: directory, agentMounts: [], agentId: 'agent', log: silentLog },
    plan: async () => ({ sources: [server], problems: [] }),
    engine: {
      listContainers: async () => containers.map((one) => ({ ...one, networkMode: 'bridge' })),
      inspectContainer: async (id: string) => ({ ...containers.find((one) => one.id === id), mounts }),
      inspectImage: async () => ({ labels: {} }),
      async archive(_: string, name: string) {
        const header = Buffer.alloc(512);
        const isLink = walLink !== undefined && name.endsWith('/pg_wal');
        header.write(isLink ? '2' : '5', 156);
        header.write(isLink ? walLink : '', 157);
        return Readable.from([header]);
      },
    },
    async openTools() {
      if (!live) throw new Error('no answer');
      return { control: async () => session, close: async () => undefined };
    },
    treeStore: { volume: async () => difference },
  };
  const context = {
    ...{ id: 'run', directory, journal: { file: path.join(directory, 'own.ndjson') }, progress: () => undefined },
    ...{
      snapshot: { id: 's' },
      entry: { index: { key: 'i' }, facts: { key: 'f' }, image: 'sha256:17', bytes: 2 * GIB },
    },
    repository: {
      readFacts: async () => ({ server: { version: '17.1', versionNumber: 170_001 } }),
      fetchIndex: async () => undefined,
    },
  };
  const start = { base: { systemId: '1', stopTime: '2026-11-20T03:00:00Z' } };
  const request = {
    source: 'db.postgres',
    target: 'latest',
    dryRun: true,
    stopServices: true,
    signal,
    say: () => undefined,
  };
  type Parameters_ = Parameters<typeof prepareInPlace>;
  return prepareInPlace(
    deps as unknown as Parameters_[0],
    request as unknown as Parameters_[1],
    { context, start } as unknown as Parameters_[2],
  );
}

describe('a recovery in place', () => {
  test('shows what it replaces, and needs the space twice', async () => {
    const { preview } = await prepare();
    expect(preview).toMatchObject({
      dataDirectory: { mount: { name: 'shop_db', directory: '' } },
      replaces: [{ name: 'the data directory of db.postgres', detail: '3.0 GiB in volume shop_db' }],
      space: { where: 'shop_db', needed: 4 * GIB },
      notes: [expect.stringContaining('configuration files')],
    });
  });

  test('says that WAL outside of the data directory moves into it', async () => {
    facts.walLink = '/var/lib/postgresql/wal';
    expect((await prepare()).preview.notes.join()).toContain('it was a link to /var/lib/postgresql/wal');
  });

  test('refuses data of another major version', async () => {
    facts.live = { versionNumber: 180_000, dataDirectory: '/var/lib/postgresql/data', systemId: '1' };
    await expect(prepare()).rejects.toMatchObject({
      code: 'TREE_TARGET_REFUSED',
      message: 'the base backup is of Postgres 17.1, and shop-db-1 is Postgres 18',
    });
  });

  test('takes the image as the version of a server that does not answer', async () => {
    facts.live = undefined;
    expect((await prepare()).preview.notes.join()).toContain('nobody can see who is connected');
    facts.imageId = 'sha256:18';
    await expect(prepare()).rejects.toMatchObject({
      code: 'TREE_TARGET_REFUSED',
      message: expect.stringContaining('does not answer, and has another image'),
    });
  });

  test('refuses a data directory with another mount in it, but not with a mounted file', async () => {
    facts.mounts = [data, inside('/var/lib/postgresql/data/pg_wal')];
    await expect(prepare()).rejects.toMatchObject({
      code: 'TREE_TARGET_REFUSED',
      message: expect.stringContaining('mounts /var/lib/postgresql/data/pg_wal inside its data directory'),
    });
    facts.mounts = [data, inside('/var/lib/postgresql/data/pg_hba.conf', 'file'), inside('/var/lib/postgresql/data2')];
    await prepare();
  });

  test('refuses a data directory that is in no volume', async () => {
    facts.mounts = [];
    await expect(prepare()).rejects.toMatchObject({
      code: 'TREE_TARGET_REFUSED',
      message: expect.stringContaining('is in no volume'),
    });
  });

  test('refuses a volume without room for two copies', async () => {
    facts.free = 4 * GIB - 1;
    await expect(prepare()).rejects.toMatchObject({
      code: 'TREE_TARGET_FULL',
      message: expect.stringMatching(/^shop_db has .* free, and the recovery needs 4,294,967,296 B$/),
    });
  });

  test('refuses a volume in which another recovery was cut off', async () => {
    const reach = { kind: 'helper' as const, mount: { ...data, directory: '' } };
    const other = path.join(directory, 'other.ndjson');
    appendJournal(other, { type: 'volume', id: 'other', root: '/pgdata', reach, mount: reach.mount });
    await prepare();
    appendJournal(other, { type: 'volume-swap', id: 'other', area: '5@1', list: 'sum', size: 3, root: '2@1' });
    await expect(prepare()).rejects.toMatchObject({ code: 'TREE_HALF_RESTORED' });
  });

  test('refuses at once what it would refuse at the end: a container that it never stops', async () => {
    facts.others = ['looker'];
    await expect(prepare()).rejects.toMatchObject({
      code: 'TREE_TARGET_REFUSED',
      message: expect.stringMatching(/^looker can write to the data directory/),
      hint: expect.stringContaining('Stop it with `docker stop`'),
    });
  });

  test('says that the present data is of another server', async () => {
    facts.live = { versionNumber: 170_002, dataDirectory: '/var/lib/postgresql/data', systemId: '2' };
    expect((await prepare()).preview.notes.join()).toContain('the present data is of another server');
  });

  test('refuses recovered data in which a check found damage', () => {
    const sound = { name: 'pg_verifybackup' as const, ok: true, detail: 'every file' };
    refuseDamaged([sound]);
    expect(() => refuseDamaged([sound, { name: 'amcheck', ok: false, detail: 'index "x" lacks tuple' }])).toThrow(
      expect.objectContaining({ code: 'PG_RESTORE_FAILED', hint: expect.stringContaining('Nothing was replaced') }),
    );
  });
});
