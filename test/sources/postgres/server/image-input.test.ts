import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import type { Mount, PostgresSource } from '../../../../src/plan/model.ts';
import { toolEnvironment } from '../../../../src/sources/postgres/server/commands.ts';
import { resolveCredentials } from '../../../../src/sources/postgres/server/credentials.ts';
import { dataMounts, mountOf } from '../../../../src/sources/postgres/server/helper-mounts.ts';
import { findServer } from '../../../../src/sources/postgres/server/postmaster.ts';

/** Input from the image and the settings of a database container. */
test.each([
  'PGHOSTADDR',
  'PGSERVICE',
  'PGSERVICEFILE',
  'PGTARGETSESSIONATTRS',
  'PGREQUIREAUTH',
  'PGCHANNELBINDING',
  'PGSYSCONFDIR',
  'PGPASSWORD',
  'PGCLIENTENCODING',
  'LC_ALL',
])('%s of an image does not reach the tools', (name) => {
  const { env, unset } = toolEnvironment('');
  expect(unset).toContain(name);
  expect(name in env).toBe(false);
});

const mount = (destination: string, type = 'volume'): Mount => ({ type, source: '/s', destination, writable: true });
test('a helper gets only the mount of the data, wherever that is', () => {
  const mounts = [mount('/'), mount('/uploads'), mount('/bitnami', 'bind'), mount('/bitnami/postgresql', 'bind')];
  const source = { mounts, dataDirectories: ['/bitnami/postgresql/data'] };
  expect(dataMounts(source, undefined).map(({ target }) => target)).toEqual(['/bitnami/postgresql']);
  expect(dataMounts(source, mounts[3])).toEqual([]);
  expect(dataMounts(source, undefined, '/uploads/pg').map(({ target }) => target)).toEqual(['/uploads']);
});
test('a path in a tmpfs is in no mount that can be shared, even inside a volume', () => {
  expect(mountOf([mount('/var'), mount('/run/postgresql', 'tmpfs')], '/var/run/postgresql')).toBeUndefined();
  expect(mountOf([mount('/var'), mount('/run/postgresql')], '/var/run/postgresql')?.destination).toBe(
    '/run/postgresql',
  );
});

const refusing = (status: number, only = '') => ({
  async archive(_id: string, path: string) {
    const statusCode = path.startsWith(only) ? status : 404;
    throw new LifeboatError('ENGINE_REFUSED', 'no', { cause: Object.assign(new Error('no'), { statusCode }) });
  },
});
const { signal } = new AbortController();
const source = {
  containerId: 'id',
  containerName: 'db',
  user: 'postgres',
  passwordFile: '/run/secrets/pw',
  database: 'app',
  databaseFile: '/run/secrets/db',
  dataDirectories: ['/a', '/b'],
} as unknown as PostgresSource;

test.each([401, 403, 405])('a file that a proxy refuses to read (%i) counts as missing', async (status) => {
  const credentials = await resolveCredentials(refusing(status) as never, source, signal);
  expect(credentials).toEqual({
    user: 'postgres',
    password: undefined,
    database: 'postgres',
    missingFile: '/run/secrets/pw',
    isRefused: true,
  });
});
test('a failure of the engine itself is not a refusal', async () => {
  await expect(resolveCredentials(refusing(500) as never, source, signal)).rejects.toThrow('no');
});
test('a directory that cannot be read does not hide the others, and only a refusal counts as a refusal', async () => {
  expect(await findServer(refusing(500, '/a') as never, source, { signal })).toEqual({ unread: true });
  expect(await findServer(refusing(403, '/a') as never, source, { signal })).toEqual({ refused: true, unread: true });
});
