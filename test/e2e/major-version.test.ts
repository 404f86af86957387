import { afterAll, expect, it } from 'vitest';
import { postgres, Stack } from '../harness/stack.ts';

/** The upgrade to a new major version of Postgres, as in docs/runbook.md. */
let stack: Stack;
afterAll(() => stack?.destroy());

it('a backup of Postgres 17 fills the empty Postgres 18 that replaces it', async () => {
  const volumes = { db: {}, db18: {} };
  stack = await Stack.start({ services: { db: postgres(17, { volumes: ['db:/var/lib/postgresql/data'] }) }, volumes });
  await stack.psql("CREATE ROLE app LOGIN PASSWORD 'canary-app'");
  await stack.psql('CREATE DATABASE shop OWNER app');
  await stack.psql('CREATE TABLE orders AS SELECT generate_series(1, 1000) AS n; ALTER TABLE orders OWNER TO app', {
    database: 'shop',
  });
  expect((await stack.backup('db.postgres')).code).toBe(0);

  await stack.write({ services: { db: postgres(18, { volumes: ['db18:/var/lib/postgresql'] }) }, volumes });
  await stack.compose('up', '--detach', '--wait', '--no-deps', 'db');
  const restored = await stack.lifeboat('restore', 'latest', 'db.postgres', '--globals', '--yes');
  expect(restored.code, restored.stderr).toBe(0);
  const ask = "SELECT count(*), sum(n), (SELECT tableowner FROM pg_tables WHERE tablename = 'orders') FROM orders";
  expect(await stack.psql(ask, { database: 'shop' })).toBe('1000|500500|app');
  expect(await stack.psql('SHOW server_version')).toMatch(/^18/);
});
