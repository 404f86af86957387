import { stat } from 'node:fs/promises';
import type { Stack } from '../test/harness/stack.ts';

/**
 * About 1.5 GB with `scale` 1: rows of words, an orders table of narrow rows with two indexes, and binary that does not
 * compress.
 */
function fill(scale: number): string {
  const count = (n: number) => Math.round(n * scale);
  return `
    SET synchronous_commit = off;
    CREATE TABLE phrase AS
      SELECT p AS id, string_agg(substr(md5((p * 7 + w * 13)::text), 1, 3 + (p + w) % 6), ' ') AS words
        FROM generate_series(0, 19999) p, generate_series(1, 6) w GROUP BY p;
    CREATE UNIQUE INDEX ON phrase (id);
    CREATE TABLE article (id int PRIMARY KEY, title text NOT NULL, body text NOT NULL, created timestamptz NOT NULL);
    INSERT INTO article
      SELECT a, 'Article ' || a, string_agg(p.words, ', '), timestamptz '2024-01-01' + a * interval '1 minute'
        FROM (SELECT a, (hashint8(a * 31 + n)::bigint + 2147483648) % 20000 AS p
                FROM generate_series(1, ${count(680_000)}::bigint) a, generate_series(1, 22) n) picks
        JOIN phrase p ON p.id = picks.p GROUP BY a;
    CREATE TABLE orders (id bigint PRIMARY KEY, customer int NOT NULL, status text NOT NULL, total numeric(10,2) NOT NULL,
                         placed timestamptz NOT NULL, note text);
    INSERT INTO orders
      SELECT i, (hashint8(i)::bigint + 2147483648) % 90000, (ARRAY['new','paid','sent','done'])[1 + i % 4],
             ((hashint8(i * 3)::bigint + 2147483648) % 1000000) / 100.0, timestamptz '2023-01-01' + i * interval '9 seconds',
             CASE WHEN i % 3 = 0 THEN 'gift for customer ' || i % 977 END
        FROM generate_series(1, ${count(5_600_000)}::bigint) i;
    CREATE INDEX ON orders (customer);
    CREATE TABLE attachment (id int PRIMARY KEY, name text NOT NULL, data bytea NOT NULL);
    ALTER TABLE attachment ALTER data SET STORAGE EXTERNAL;
    INSERT INTO attachment
      SELECT i, md5(i::text), (SELECT string_agg(sha256((i || ':' || n)::bytea), '') FROM generate_series(1, 256) n)
        FROM generate_series(1, ${count(30_000)}) i;
    VACUUM ANALYZE;
    CHECKPOINT;`;
}

/** Makes the database `app` of about 1.5 GB, or a tenth of it; resolves to its size in words. */
export async function makeDatabase(stack: Stack, small: boolean): Promise<string> {
  process.stderr.write('making a database\n');
  await stack.psql('CREATE DATABASE app');
  await stack.psql(fill(small ? 0.1 : 1), { database: 'app' });
  return stack.psql("SELECT pg_size_pretty(pg_database_size('app'))");
}

/** Returns facts that two databases with the same content agree on. */
export function contentOf(stack: Stack, database: string): Promise<string> {
  return stack.psql(
    'SELECT (SELECT count(*) FROM article), (SELECT sum(total) FROM orders), (SELECT sum(length(data)) FROM attachment)',
    { database },
  );
}

/** An empty dump would be quick. */
export async function notEmpty(file: string): Promise<void> {
  if ((await stat(file)).size === 0) throw new Error(`${file} is empty`);
}
