import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ok, postgres, Stack } from '../harness/stack.ts';

/** A server whose `pg_dump` was built without zstd, and tables whose rows are left out on request. */
let stack: Stack;
const image = `lifeboat-test-nozstd:${randomBytes(4).toString('hex')}`;

const STUB = `#!/bin/sh
for argument in "$@"; do
  case $argument in --compress=zstd*)
    echo "pg_dump: error: invalid compression specification: this build does not support compression with ZSTD" >&2
    exit 1
  esac
done
exec "$0.real" "$@"
`;

beforeAll(async () => {
  const make = `cd /usr/lib/postgresql/17/bin && mv pg_dump pg_dump.real && printf '%s' "$1" > pg_dump && chmod 755 pg_dump`;
  const run = ['run', '--detach', '--entrypoint', 'sh', 'postgres:17', '-c', make, 'sh', STUB];
  const container = (await ok('docker', run)).trim();
  await ok('docker', ['wait', container]);
  const as = ['--change', 'ENTRYPOINT ["docker-entrypoint.sh"]', '--change', 'CMD ["postgres"]'];
  await ok('docker', ['commit', ...as, container, image]);
  await ok('docker', ['rm', '--volumes', container]);
  const labels = {
    'lifeboat.postgres': 'true',
    'lifeboat.postgres.exclude-table-data': 'audit.*, cach?, "Mixed"',
  };
  // A spool of this size has no room for a dump that is uncompressed on purpose.
  const spool = { driver: 'local', driver_opts: { type: 'tmpfs', device: 'tmpfs', o: 'size=512m' } };
  stack = await Stack.start({ services: { db: postgres(17, { image, labels }) }, volumes: { spool } });
  await stack.psql('CREATE DATABASE shop');
  await stack.psql('CREATE DATABASE none');
  const fill = (name: string) => `CREATE TABLE ${name} AS SELECT generate_series(1, 100) AS n;`;
  const tables = ['orders', 'cache', 'caches', '"Mixed"', 'mixed', 'audit.log', 'audit."Log 2"'];
  await stack.psql(`CREATE SCHEMA audit; ${tables.map(fill).join(' ')}`, { database: 'shop' });
  await stack.psql(fill('other'), { database: 'none' });
});
afterAll(async () => {
  await stack?.destroy();
  await ok('docker', ['rmi', '--force', image]);
});

interface Shown {
  summary: string;
  rows: number;
  facts: {
    compression: string;
    rows: number;
    databases: { name: string; tables: { schema: string; name: string; data?: false }[] }[];
  };
}

it('dumps without zstd, and counts the rows in the dump', async () => {
  const { code, report, stderr } = await stack.backup();
  expect({ code, status: report.status }, stderr + JSON.stringify(report.results)).toEqual({ code: 0, status: 'ok' });
  expect(report.results[0]?.summary).toBe('3 databases, 8 tables, 400 rows, 4 tables without rows, as configured');
  const { facts, rows } = await stack.json<Shown>('show', 'latest', 'db.postgres');
  expect([facts.compression, facts.rows, rows]).toEqual(['none', 400, 400]);
  const shop = facts.databases.find(({ name }) => name === 'shop')?.tables ?? [];
  const without = shop.filter(({ data }) => data === false).map(({ schema, name }) => `${schema}.${name}`);
  expect(without).toEqual(['audit.Log 2', 'audit.log', 'public.Mixed', 'public.cache']);
});

it('restores all tables, without the rows that were left out', async () => {
  const restored = await stack.lifeboat(
    'restore',
    'latest',
    'db.postgres',
    '--database',
    'shop',
    '--to-database',
    'again',
  );
  expect(restored.code, restored.stderr).toBe(0);
  const count = (name: string) => stack.psql(`SELECT count(*) FROM ${name}`, { database: 'again' });
  expect([await count('orders'), await count('caches'), await count('mixed')]).toEqual(['100', '100', '100']);
  expect([await count('cache'), await count('"Mixed"'), await count('audit.log')]).toEqual(['0', '0', '0']);
});
