import { rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { postgres, Stack } from '../test/harness/stack.ts';
import { type Budget, lifeboatProcess, Results, report, shell } from './measure.ts';
import { type BenchOptions, clearRepository, expectOk, withoutPoliteness } from './stack.ts';

const OURS = 'lifeboat backup';
const AGAIN = 'lifeboat backup, unchanged';
const RESTORE = 'lifeboat restore';
const EXEC = 'docker exec pg_dump \\| gzip';
const BARE = 'bare helper pg_dump -Fd -j2';
const PSQL = 'zcat \\| docker exec psql';

const BUDGETS: Budget[] = [
  { contender: OURS, rival: EXEC, most: 0.35 },
  { contender: OURS, rival: BARE, most: 1.3 },
  { contender: RESTORE, rival: PSQL, most: 0.65 },
  { contender: OURS, mostMiB: 250 },
  { contender: RESTORE, mostMiB: 250 },
];

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

/** Dumps and restores of one database: ours against what runbooks do, and against the bare tool. */
export async function benchPostgres({ rounds, small, image }: BenchOptions): Promise<string> {
  process.stderr.write('making a database\n');
  const stack = await Stack.start({
    services: { db: postgres(17, { shm_size: '256m' }) },
    volumes: { rival: {} },
    agent: { volumes: ['rival:/rival'] },
    receiver: false,
    image,
  });
  const stop = withoutPoliteness(stack);
  try {
    await stack.psql('CREATE DATABASE app');
    await stack.psql(fill(small ? 0.1 : 1), { database: 'app' });
    const size = await stack.psql("SELECT pg_size_pretty(pg_database_size('app'))");
    const results = new Results();
    for (let round = 1; round <= rounds; round++) {
      process.stderr.write(`round ${round} of ${rounds}, ${size}\n`);
      await oneRound(stack, results, await stack.id('db'));
    }
    return `Database of ${size}, Postgres 17.\n\n${report(results, BUDGETS)}`;
  } finally {
    stop();
    await stack.destroy();
  }
}

async function oneRound(stack: Stack, results: Results, db: string): Promise<void> {
  const dump = path.join(stack.directory, 'dump.sql.gz');
  await results.run(EXEC, () => shell(`docker exec ${db} pg_dump -U postgres app | gzip > ${dump}`));
  await notEmpty(dump);

  await clearRepository(stack);
  await results.run(OURS, () => expectOk(stack.lifeboat('backup', 'db.postgres')), lifeboatProcess);
  await results.run(AGAIN, () => expectOk(stack.lifeboat('backup', 'db.postgres')), lifeboatProcess);

  await stack.exec('lifeboat', ['rm', '-rf', '/rival/dump']);
  await results.run(BARE, () =>
    shell(
      `docker run --rm --network container:${db} --volume ${stack.project}_rival:/rival --entrypoint pg_dump postgres:17 ` +
        '-h 127.0.0.1 -U postgres -Fd -j2 -Z zstd:3 -f /rival/dump app',
    ),
  );

  await stack.psql('CREATE DATABASE by_psql');
  await results.run(PSQL, () =>
    shell(`zcat ${dump} | docker exec -i ${db} psql -X -q -v ON_ERROR_STOP=1 -U postgres -d by_psql`),
  );
  await results.run(
    RESTORE,
    () => expectOk(stack.lifeboat('restore', 'latest', 'db.postgres', '--database', 'app', '--to-database', 'by_us')),
    lifeboatProcess,
  );
  const [theirs, ours] = await Promise.all([count(stack, 'by_psql'), count(stack, 'by_us')]);
  if (theirs !== ours) throw new Error(`the restored databases differ: ${theirs} and ${ours}`);
  await stack.psql('DROP DATABASE by_psql');
  await stack.psql('DROP DATABASE by_us');
  await rm(dump);
}

function count(stack: Stack, database: string): Promise<string> {
  return stack.psql(
    'SELECT (SELECT count(*) FROM article), (SELECT sum(total) FROM orders), (SELECT sum(length(data)) FROM attachment)',
    { database },
  );
}

async function notEmpty(file: string): Promise<void> {
  if ((await stat(file)).size === 0) throw new Error(`${file} is empty`);
}
