import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Readable, Transform, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type ErrorCode, LifeboatError } from '../../base/errors.ts';

/** What it means when a program refuses its input. */
export interface Failure {
  code: ErrorCode;
  message: string;
  hint?: string;
}

/** A program that turns a stream into another one. Secrets go into `inputs` alone. */
export interface Filter {
  command: string;
  args: readonly string[];
  /** beside what every program gets; nothing secret */
  env?: Readonly<Record<string, string>>;
  /** texts that it reads from file descriptor 3, 4 and so on */
  inputs?: readonly string[];
  /** @param words the end of what it wrote to stderr */
  failure(words: string): Failure;
  /** called, and waited for, once it has ended, however it did */
  ended?(): Promise<void>;
}

/** The environment of programs: the agent's own holds its settings, and with them secrets. Messages are in English. */
export function toolEnv(): Record<string, string> {
  return { PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' };
}

const STDERR_LIMIT = 2000;

/**
 * Runs `input` through a program. The result ends only after all of `input` was taken and the program ended with exit
 * status 0; otherwise it errors. Destroying the result kills the program and destroys `input`.
 */
export function throughProgram(input: Readable, filter: Filter): Readable {
  const inputs = filter.inputs ?? [];
  const child = spawn(filter.command, filter.args, {
    stdio: ['pipe', 'pipe', 'pipe', ...inputs.map(() => 'pipe' as const)],
    env: { ...toolEnv(), ...filter.env },
  }) as ChildProcessWithoutNullStreams;
  for (const [i, input] of inputs.entries()) {
    const pipe = child.stdio[3 + i] as Writable | undefined;
    // A program that ends before it has read them says more by its status.
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
    // The program's own verdict comes first: when it ends early, feeding it fails too, and says less.
    flush: (done) => {
      exited.then(() => fed).then(() => done(), done);
    },
    destroy: (error, done) => {
      child.kill('SIGKILL');
      input.destroy();
      // What nobody reads any more would keep the program's end from being told.
      child.stdout.destroy();
      exited.catch(() => {}).then(() => done(error));
    },
  });
  fed.catch((error: NodeJS.ErrnoException) => {
    // One that ended early cannot be fed: what it ended with says why, and is heard when its output ends.
    const over = child.exitCode !== null || child.signalCode !== null || error.syscall === 'write';
    if (!over && !result.destroyed) result.destroy(error);
  });
  exited.catch((error: Error) => {
    // A program that is missing never closes its output.
    if (!child.pid) result.destroy(missingProgram(filter.command, error));
  });
  child.stdout.on('error', (error) => result.destroy(error));
  child.stdout.pipe(result);
  return result;
}

function missingProgram(command: string, cause: Error): LifeboatError {
  return new LifeboatError('TOOL_FAILED', `the program ${command} could not be started`, {
    cause,
    hint: `Install ${command} where Lifeboat runs; its own image holds it.`,
  });
}
