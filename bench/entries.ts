import { holder, Stack } from '../test/harness/stack.ts';
import { type Budget, lifeboatProcess, Results, report } from './measure.ts';
import { type BenchOptions, expectOk, withoutPoliteness } from './stack.ts';

const FIRST = 'lifeboat, first';
const UNCHANGED = 'lifeboat, unchanged';

const BUDGETS: Budget[] = [FIRST, UNCHANGED].map((contender) => ({ contender, mostMiB: 300 }));

/** Runs in the container that holds the volume: a thousand directories of tiny files, no two of them equal. */
const FILL = `
  const { mkdirSync, writeFileSync } = require('node:fs');
  const count = Number(process.argv[1]);
  for (let n = 0; n < count; n++) {
    const directory = '/media/' + String(Math.floor(n / 1000)).padStart(4, '0');
    if (n % 1000 === 0) mkdirSync(directory);
    writeFileSync(directory + '/' + n + '.txt', 'content of file ' + n);
  }`;

/** A million files: memory must not grow with their number. Once, since it takes minutes. */
export async function benchEntries({ small, image }: BenchOptions): Promise<string> {
  const count = small ? 50_000 : 1_000_000;
  process.stderr.write(`making ${count} files in memory\n`);
  const stack = await Stack.start({
    services: { web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }) },
    volumes: { media: { driver_opts: { type: 'tmpfs', device: 'tmpfs', o: 'nr_inodes=1100000' } } },
    receiver: false,
    image,
  });
  const stop = withoutPoliteness(stack);
  try {
    await stack.exec('web', ['node', '-e', FILL, String(count)]);
    const results = new Results();
    for (const what of [FIRST, UNCHANGED]) {
      await results.run(what, () => expectOk(stack.lifeboat('backup', 'web.media')), lifeboatProcess);
    }
    return `${count} files, read by a helper.\n\n${report(results, BUDGETS)}`;
  } finally {
    stop();
    await stack.destroy();
  }
}
