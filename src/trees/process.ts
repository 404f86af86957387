import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { aborted, onAbort } from '../base/abort.ts';
import { LifeboatError } from '../base/errors.ts';
import { Capture, lastWords } from '../docker/capture.ts';
import { LineBuffer } from '../docker/lines.ts';

/** The longest wait for a killed process. A process that hangs in a system call ends late or never. */
const END_MS = 5000;

interface RunTreeProcessOptions {
  command: readonly string[];
  env: Record<string, string>;
  input: unknown;
  onLine: (line: unknown) => void;
  signal: AbortSignal;
}

/**
 * Runs a tree job in a separate process of the agent, with the protocol of a helper: the job on stdin, JSON lines on
 * stdout. A hanging file system blocks only that process. The kernel ends it together with the agent.
 *
 * @param command program and arguments
 * @param signal kills the process; the promise settles within seconds, even if the process cannot end
 * @throws HELPER_FAILED when the process fails; the signal's reason
 */
export async function runTreeProcess({ command, env, input, onLine, signal }: RunTreeProcessOptions): Promise<void> {
  signal.throwIfAborted();
  const inherited = Object.fromEntries(
    ['PATH', 'HOME', 'NODE_ENV', 'NODE_COMPILE_CACHE'].flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
  // The kernel signals the parent's death, so nothing continues to store for a dead run.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...inherited, ...env },
  });
  const stderr = new Capture(16 * 1024, 4096);
  child.stderr.on('data', (chunk: Buffer) => stderr.add(chunk));
  const exited = once(child, 'close') as Promise<[number | null, string | null]>;
  exited.catch(() => {});
  const lines = new LineBuffer();
  let broken: unknown;
  child.stdout.on('data', (chunk: Buffer) => {
    try {
      for (const line of lines.split(chunk)) onLine(JSON.parse(line));
    } catch (error) {
      broken ??= error;
      child.kill('SIGKILL');
    }
  });
  const forget = onAbort(signal, () => child.kill('SIGKILL'));
  const given = aborted(signal).then(() => Promise.race([exited, sleep(END_MS, undefined)]));
  // If the process ended early, its exit status says why.
  child.stdin.on('error', () => {});
  child.stdin.end(`${JSON.stringify(input)}\n`);
  try {
    const ended = await Promise.race([exited, given]);
    signal.throwIfAborted();
    if (broken !== undefined || !ended || ended[0] !== 0) throw failed(ended, stderr, broken);
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof LifeboatError ? error : failed(undefined, stderr, error);
  } finally {
    forget();
    if (child.exitCode === null && child.signalCode === null) {
      child.unref();
      for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
    }
  }
}

function failed(ended: [number | null, string | null] | undefined, stderr: Capture, cause: unknown) {
  const words = lastWords(stderr.text());
  const how = ended ? `ended with ${ended[0] === null ? ended[1] : `status ${ended[0]}`}` : 'could not be run';
  return new LifeboatError('HELPER_FAILED', `the process that reads files ${how}${words ? `: ${words}` : ''}`, {
    cause,
  });
}
