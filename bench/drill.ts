import { postgres, Stack } from '../test/harness/stack.ts';
import { contentOf, makeDatabase } from './database.ts';
import { type Budget, lifeboatProcess, Results, report } from './measure.ts';
import { type BenchOptions, expectOk, withoutPoliteness } from './stack.ts';

const RESTORE = 'lifeboat restore --to-database';
const DRILL = 'lifeboat drill';

const BUDGETS: Budget[] = [
  { contender: DRILL, rival: RESTORE, most: 1.3 },
  { contender: DRILL, mostMiB: 250 },
];

/** A drill of one database against the restore that it contains: the rest is a new server and the checks. */
export async function benchDrill({ rounds, small, image }: BenchOptions): Promise<string> {
  const stack = await Stack.start({ services: { db: postgres(17, { shm_size: '256m' }) }, receiver: false, image });
  const stop = withoutPoliteness(stack);
  try {
    const size = await makeDatabase(stack, small);
    await expectOk(stack.lifeboat('backup', 'db.postgres'));
    const wanted = await contentOf(stack, 'app');
    const results = new Results();
    for (let round = 1; round <= rounds; round++) {
      process.stderr.write(`round ${round} of ${rounds}, ${size}\n`);
      const restore = ['restore', 'latest', 'db.postgres', '--database', 'app', '--to-database', 'again', '--json'];
      await results.run(RESTORE, () => expectOk(stack.lifeboat(...restore)), lifeboatProcess);
      if ((await contentOf(stack, 'again')) !== wanted) throw new Error('the restored database differs');
      await stack.psql('DROP DATABASE again');
      await stack.psql('CHECKPOINT');
      await results.run(DRILL, () => expectOk(stack.lifeboat('drill', 'db.postgres', '--json')), lifeboatProcess);
    }
    return `Database of ${size}, Postgres 17.\n\n${report(results, BUDGETS)}`;
  } finally {
    stop();
    await stack.destroy();
  }
}
