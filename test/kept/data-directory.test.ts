import { describe, expect, test } from 'vitest';
import { dataDirectoryOf, volumeOf } from '../../src/kept/data-directory.ts';
import type { Mount, Plan, PostgresSource } from '../../src/plan/model.ts';

const mount = (destination: string, more: Partial<Mount> = {}): Mount => ({
  ...{ type: 'volume', name: 'shop_db', source: '/var/lib/docker/volumes/shop_db/_data', writable: true },
  destination,
  ...more,
});
const server = (dataDirectory: string, mounts: Mount[]) =>
  ({
    ...{ kind: 'postgres', name: 'db.postgres', project: 'shop', service: 'db', containerId: 'one' },
    ...{ containerName: 'shop-db-1', schedule: '@daily', keep: {}, dataDirectories: [dataDirectory], mounts },
  }) as unknown as PostgresSource;

describe('the data directory of a server', () => {
  test.each([
    ['/var/lib/postgresql/data', '/var/lib/postgresql/data', ''],
    ['/var/lib/postgresql/18/docker', '/var/lib/postgresql', '18/docker'],
    ['/data/pgdata/', '/data', 'pgdata'],
  ])('%s in a volume at %s is its directory "%s"', (directory, at, within) => {
    const found = dataDirectoryOf(server(directory, [mount(at)]));
    expect(found).toMatchObject({ kind: 'volume', name: 'db.postgres', mount: { name: 'shop_db', directory: within } });
  });

  test('is refused in the container itself, in memory, and in a read-only mount', () => {
    for (const mounts of [[], [mount('/data', { type: 'tmpfs' })], [mount('/data', { writable: false })]])
      expect(() => dataDirectoryOf(server('/data', mounts))).toThrow('in no volume');
  });

  test('never leads out of its mount, whatever the server says', () => {
    const mounts = [mount('/data')];
    expect(dataDirectoryOf(server('/data', mounts), '/data/./x/../pg').mount.directory).toBe('pg');
    expect(() => dataDirectoryOf(server('/data', mounts), '/data/../spool')).toThrow('in no volume');
    expect(() => dataDirectoryOf(server('/data', mounts), '/data/x/../../..')).toThrow('in no volume');
  });

  test('is found from its record while its server does not run', async () => {
    const dataDirectory = dataDirectoryOf(server('/data', [mount('/data')]));
    const plan = async () => ({ sources: [] as PostgresSource[], problems: [] }) as unknown as Plan;
    expect(await volumeOf({ plan }, { source: 'db.postgres', dataDirectory })).toEqual(dataDirectory);
    await expect(volumeOf({ plan }, { source: 'db.postgres' })).rejects.toMatchObject({ code: 'SOURCE_UNKNOWN' });
  });
});
