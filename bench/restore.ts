import path from 'node:path';
import type { RestoreResult } from '../src/restore/context.ts';
import { postgres, Stack } from '../test/harness/stack.ts';
import { contentOf, makeDatabase, notEmpty } from './database.ts';
import { type Budget, lifeboatProcess, median, Results, report, shell } from './measure.ts';
import { type BenchOptions, expectOk } from './stack.ts';

const BESIDE = 'lifeboat restore --to-database';
const IN_PLACE = 'lifeboat restore, in place';
const PSQL = 'zcat \\| docker exec psql';

const BUDGETS: Budget[] = [
  { contender: BESIDE, rival: PSQL, most: 0.55 },
  { contender: IN_PLACE, rival: PSQL, most: 0.55 },
  { contender: BESIDE, mostMiB: 250 },
  { contender: IN_PLACE, mostMiB: 250 },
];

/** Restores of one database, to one that is ready to use: ours against what runbooks do. */
export async function benchRestore({ rounds, small, image }: BenchOptions): Promise<string> {
  const stack = await Stack.start({ services: { db: postgres(17, { shm_size: '256m' }) }, receiver: false, image });
  try {
    const size = await makeDatabase(stack, small);
    const db = await stack.id('db');
    const dump = path.join(stack.directory, 'dump.sql.gz');
    await shell(`docker exec ${db} pg_dump -U postgres app | gzip > ${dump}`);
    await notEmpty(dump);
    await expectOk(stack.lifeboat('backup', 'db.postgres'));
    const results = new Results();
    const away: number[] = [];
    for (let round = 1; round <= rounds; round++) {
      process.stderr.write(`round ${round} of ${rounds}, ${size}\n`);
      away.push(await oneRound(stack, results, { db, dump }));
    }
    const without = `In place, the database was away for ${median(away)} ms (${away.join(' · ')}).`;
    return `Database of ${size}, Postgres 17.\n\n${report(results, BUDGETS)}\n${without}`;
  } finally {
    await stack.destroy();
  }
}

/**
 * Resolves to how long the database that was replaced was away, in milliseconds. The database that a contender made is
 * dropped before the next begins, and everything is written to the disk, so that the server has no work left of one
 * while another restores.
 */
async function oneRound(stack: Stack, results: Results, { db, dump }: { db: string; dump: string }): Promise<number> {
  const restore = (...args: string[]) =>
    expectOk(stack.lifeboat('restore', 'latest', 'db.postgres', '--database', 'app', '--json', ...args));
  const wanted = await contentOf(stack, 'app');
  const expectContent = async (name: string) => {
    const content = await contentOf(stack, name);
    if (content !== wanted) throw new Error(`the restored database differs: ${content}, not ${wanted}`);
  };
  const drop = async (name: string) => {
    await expectContent(name);
    await stack.psql(`DROP DATABASE ${name}`);
    await stack.psql('CHECKPOINT');
  };
  await stack.psql('CREATE DATABASE by_psql');
  await results.run(PSQL, () =>
    shell(`zcat ${dump} | docker exec -i ${db} psql -X -q -v ON_ERROR_STOP=1 -U postgres -d by_psql`),
  );
  await drop('by_psql');
  await results.run(BESIDE, () => restore('--to-database', 'by_us'), lifeboatProcess);
  await drop('by_us');
  let printed = '';
  await results.run(
    IN_PLACE,
    async () => {
      // A safety snapshot is what the rival has not got either.
      printed = await restore('--yes', '--no-safety');
    },
    lifeboatProcess,
  );
  await expectContent('app');
  await expectOk(stack.lifeboat('rollback', '--yes'));
  await expectOk(stack.lifeboat('rollback', '--forget', '--yes'));
  await stack.psql('CHECKPOINT');
  return (JSON.parse(printed) as RestoreResult).withoutDataMs ?? Number.NaN;
}
