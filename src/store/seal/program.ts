import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Readable, Transform, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type ErrorCode, LifeboatError } from '../../base/errors.ts';

/** The error for a program that refuses its input. */
export interface Failure {
  code: ErrorCode;
  message: string;
  hint?: string;
}

/** A program that transforms a stream. Secrets may only be in `inputs`. */
export interface Filter {
  command: string;
  args: readonly string[];
  /** variables in addition to {@link toolEnv}; no secrets */
  env?: Readonly<Record<string, string>>;
  /** texts that the program reads from file descriptors 3, 4 and so on */
  inputs?: readonly string[];
  /** @param words the end of the program's stderr */
  failure(words: string): Failure;
  /** awaited once the program has ended, whether it succeeded or not */
  ended?(): Promise<void>;
}

/** Returns the environment of programs, with messages in English. The agent's own environment may contain secrets. */
export function toolEnv(): Record<string, string> {
  return { PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' };
}

const STDERR_LIMIT = 2000;

/**
 * Pipes `input` through a program. The result ends only after the program has read all of `input` and exited with
 * status 0; otherwise it fails. Destroying the result kills the program and destroys `input`.
 */
export function throughProgram(input: Readable, filter: Filter): Readable {
  const inputs = filter.inputs ?? [];
  const child = spawn(filter.command, filter.args, {
    stdio: ['pipe', 'pipe', 'pipe', ...inputs.map(() => 'pipe' as const)],
    env: { ...toolEnv(), ...filter.env },
  }) as ChildProcessWithoutNullStreams;
  for (const [i, input] of inputs.entries()) {
    const pipe = child.stdio[3 + i] as Writable | undefined;
    // The exit status of a program that ends before it has read its inputs is more informative.
    pipe?.on('error', () => {});
    pipe?.end(input);
  }
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-STDERR_LIMIT);
  });
  const ended = once(child, 'close').finally(() => filter.ended?.());
  const exited = ended.then(([status, signal]) => {
    if (status === 0) return;
    const how = status === null ? `was killed by ${signal}` : `ended with status ${status}`;
    const cause = new Error(`${filter.command} ${how}: ${stderr.trim() || 'no message'}`);
    const { code, message, ...rest } = filter.failure(stderr);
    throw new LifeboatError(code, message, { ...rest, cause });
  });
  const fed = pipeline(input, child.stdin);
  const result = new Transform({
    transform: (chunk, _, done) => done(null, chunk),
    // The program's exit status comes first. If it ends early, writing to it fails too, with a less informative error.
    flush: (done) => {
      exited.then(() => fed).then(() => done(), done);
    },
    destroy: (error, done) => {
      child.kill('SIGKILL');
      input.destroy();
      // Unread output would delay the `close` event of the program.
      child.stdout.destroy();
      exited.catch(() => {}).then(() => done(error));
    },
  });
  fed.catch((error: NodeJS.ErrnoException) => {
    // Writing to a program that ended early fails. Its exit status says why, and is reported when its output ends.
    const over = child.exitCode !== null || child.signalCode !== null || error.syscall === 'write';
    if (!over && !result.destroyed) result.destroy(error);
  });
  exited.catch((error: Error) => {
    // A missing program never closes its output.
    if (!child.pid) result.destroy(missingProgram(filter.command, error));
  });
  child.stdout.on('error', (error) => result.destroy(error));
  child.stdout.pipe(result);
  return result;
}

function missingProgram(command: string, cause: Error): LifeboatError {
  return new LifeboatError('TOOL_FAILED', `the program ${command} could not be started`, {
    cause,
    hint: `Install ${command} where Lifeboat runs. Lifeboat's image contains it.`,
  });
}
