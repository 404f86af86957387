import { cpus, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import type { BenchOptions } from './stack.ts';

const BENCHES: Record<string, (options: BenchOptions) => Promise<string>> = {
  postgres: async (options) => (await import('./postgres.ts')).benchPostgres(options),
  restore: async (options) => (await import('./restore.ts')).benchRestore(options),
  drill: async (options) => (await import('./drill.ts')).benchDrill(options),
  volume: async (options) => (await import('./volume.ts')).benchVolume(options),
  seal: async (options) => (await import('./seal.ts')).benchSeal(options),
  s3: async (options) => (await import('./s3.ts')).benchS3(options),
  entries: async (options) => (await import('./entries.ts')).benchEntries(options),
  history: async (options) => (await import('./history.ts')).benchHistory(options),
  idle: async (options) => (await import('./idle.ts')).benchIdle(options),
  pitr: async (options) => (await import('./pitr.ts')).benchPitr(options),
  repository: async (options) => (await import('./repository.ts')).benchRepository(options),
  known: async (options) => (await import('./known.ts')).benchKnown(options),
};

const USAGE = `usage: npm run bench -- ${Object.keys(BENCHES).join('|')} [--rounds 3] [--size full|small]`;

/** Runs the benchmarks that the command line names, one after the other, and prints their tables. */
async function main(argv: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: { rounds: { type: 'string', default: '3' }, size: { type: 'string', default: 'full' } },
  });
  const rounds = Number(values.rounds);
  const known = positionals.length > 0 && positionals.every((name) => name in BENCHES);
  if (!known || !Number.isInteger(rounds) || rounds < 1 || !['full', 'small'].includes(values.size)) {
    process.stderr.write(`${USAGE}\n`);
    process.exitCode = 2;
    return;
  }
  const image = process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:bench';
  const processors = cpus();
  const memory = (totalmem() / 1024 ** 3).toFixed(0);
  console.log(`${processors.length} × ${processors[0]?.model.trim()}, ${memory} GiB, Node ${process.version}\n`);
  for (const name of positionals) {
    const table = await BENCHES[name]!({ rounds, small: values.size === 'small', image });
    console.log(`## ${name}\n\n${table}\n`);
  }
}

await main(process.argv.slice(2));
