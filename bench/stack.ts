import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { ok, type Ran, type Stack, sh } from '../test/harness/stack.ts';

/** The options of the command line of the benchmarks. */
export interface BenchOptions {
  rounds: number;
  /** a tenth of the data, to try the benchmark itself */
  small: boolean;
  /** the agent's image */
  image: string;
}

/**
 * Empties the repository and the agent's memory of it: the next backup is a first one. The agent is stopped meanwhile,
 * because it could save what it has just read of the repository.
 */
export async function clearRepository(stack: Stack): Promise<void> {
  const agent = await stack.id('lifeboat');
  const image = await ok('docker', ['inspect', '--format', '{{.Image}}', agent]);
  await ok('docker', ['stop', agent]);
  const clear =
    'rm -rf /backups/* && mkdir -p /spool/state && cd /spool/state && find . -mindepth 1 -not -name home.json -delete && ls /backups';
  await ok('docker', ['run', '--rm', '--volumes-from', agent, '--entrypoint', 'sh', image.trim(), '-c', clear]);
  await ok('docker', ['start', agent]);
}

/** Lifeboat's output when it said that all is well; an error that shows the output otherwise. */
export async function expectOk(running: Promise<Ran>): Promise<string> {
  const { code, stdout, stderr } = await running;
  if (code !== 0) throw new Error(`lifeboat ended with status ${code}\n${stdout}\n${stderr}`);
  return stdout;
}

/**
 * Gives helpers of the stack the processor weight of every other container. Theirs is low on purpose, so that on a
 * machine with other work they wait; here that would measure the other work. Returns what ends it.
 */
export function withoutPoliteness(stack: Stack): () => void {
  const filters = ['event=start', `label=dev.lifeboat.project=${stack.project}`].flatMap((one) => ['--filter', one]);
  const events = spawn('docker', ['events', ...filters, '--format', '{{.ID}}'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  createInterface(events.stdout).on('line', (id) => void sh('docker', ['update', '--cpu-shares', '1024', id]));
  return () => void events.kill();
}
