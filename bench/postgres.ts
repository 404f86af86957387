import { rm } from 'node:fs/promises';
import path from 'node:path';
import { postgres, Stack } from '../test/harness/stack.ts';
import { makeDatabase, notEmpty } from './database.ts';
import { type Budget, lifeboatProcess, Results, report, shell } from './measure.ts';
import { type BenchOptions, clearRepository, expectOk } from './stack.ts';

const OURS = 'lifeboat backup';
const AGAIN = 'lifeboat backup, unchanged';
const EXEC = 'docker exec pg_dump \\| gzip';
const BARE = 'bare helper pg_dump -Fd -j2';

const BUDGETS: Budget[] = [
  { contender: OURS, rival: EXEC, most: 0.2 },
  { contender: AGAIN, rival: EXEC, most: 0.14 },
  { contender: OURS, rival: BARE, most: 1.3 },
  { contender: OURS, mostMiB: 250 },
];

/** Dumps of one database: ours against what runbooks do, and against the bare tool. */
export async function benchPostgres({ rounds, small, image }: BenchOptions): Promise<string> {
  const stack = await Stack.start({
    services: { db: postgres(17, { shm_size: '256m' }) },
    volumes: { rival: {} },
    agent: { volumes: ['rival:/rival'] },
    receiver: false,
    image,
  });
  try {
    const size = await makeDatabase(stack, small);
    const results = new Results();
    for (let round = 1; round <= rounds; round++) {
      process.stderr.write(`round ${round} of ${rounds}, ${size}\n`);
      await oneRound(stack, results, await stack.id('db'));
    }
    return `Database of ${size}, Postgres 17.\n\n${report(results, BUDGETS)}`;
  } finally {
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
  await rm(dump);
}
