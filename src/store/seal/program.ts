import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { pipeline as pipelineThen, type Readable, Transform, type Writable } from 'node:stream';
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

/** A step between a plain and a stored stream: a program, or a stream inside the process. */
export type Step = Filter | (() => Transform);

/** Returns whether a step is a program. */
export function isProgram(step: Step): step is Filter {
  return typeof step !== 'function';
}

/** Pipes `input` through a step, as {@link throughProgram} does. */
export function throughStep(input: Readable, step: Step): Readable {
  if (isProgram(step)) return throughProgram(input, step);
  const stream = step();
  // Errors reach the reader through `stream`.
  pipelineThen(input, stream, () => {});
  return stream;
}

/** Returns the environment of programs, with messages in English. The agent's own environment may contain secrets. */
export function toolEnv(): Record<string, string> {
  return { PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' };
}

const STDERR_LIMIT = 2000;

/** The words of zstd and gpg for a full disk. */
const NO_SPACE = /no space left on device|disk quota exceeded/i;

/** The beginning of what prlimit(1) prints if it cannot start a program. */
const NOT_STARTED = 'prlimit: failed to execute';

/** A program that was started. */
interface Started {
  child: ChildProcess;
  /** the program itself, or the one that starts it */
  command: string;
  stdin: Writable;
  /** rejects unless the program exits with status 0 */
  exited: Promise<void>;
}

/**
 * Starts a program.
 *
 * @param stdout a file descriptor, or a pipe
 * @param maxSize the largest file that it may write, bytes; enforced by the kernel (setrlimit(2), RLIMIT_FSIZE)
 */
function start(filter: Filter, stdout: 'pipe' | number, maxSize?: number): Started {
  const inputs = filter.inputs ?? [];
  const limit = maxSize === undefined ? [] : ['prlimit', `--fsize=${maxSize}`];
  const [command = '', ...args] = [...limit, filter.command, ...filter.args];
  const child = spawn(command, args, {
    stdio: ['pipe', stdout, 'pipe', ...inputs.map(() => 'pipe' as const)],
    env: { ...toolEnv(), ...filter.env },
  });
  for (const [i, input] of inputs.entries()) {
    const pipe = child.stdio[3 + i] as Writable | undefined;
    // The exit status of a program that ends before it has read its inputs is more informative.
    pipe?.on('error', () => {});
    pipe?.end(input);
  }
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-STDERR_LIMIT);
  });
  const ended = once(child, 'close').finally(() => filter.ended?.());
  const exited = ended.then(([status, signal]) => {
    if (status === 0) return;
    const how = status === null ? `was killed by ${signal}` : `ended with status ${status}`;
    const cause = new Error(`${filter.command} ${how}: ${stderr.trim() || 'no message'}`);
    if (maxSize !== undefined && stderr.startsWith(NOT_STARTED)) throw missingProgram(filter.command, cause);
    if (NO_SPACE.test(stderr)) throw Object.assign(cause, { code: 'ENOSPC' });
    const { code, message, ...rest } = filter.failure(stderr);
    throw new LifeboatError(code, message, { ...rest, cause });
  });
  return { child, command, stdin: child.stdin as Writable, exited };
}

/**
 * Pipes `input` through a program. The result ends only after the program has read all of `input` and exited with
 * status 0; otherwise it fails. Destroying the result kills the program and destroys `input`.
 */
export function throughProgram(input: Readable, filter: Filter): Readable {
  const { child, command, stdin, exited } = start(filter, 'pipe');
  const stdout = child.stdout as Readable;
  const fed = pipeline(input, stdin);
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
      stdout.destroy();
      exited.catch(() => {}).then(() => done(error));
    },
  });
  fed.catch((error: NodeJS.ErrnoException) => {
    if (!isOver(child, error) && !result.destroyed) result.destroy(error);
  });
  exited.catch((error: Error) => {
    // A missing program never closes its output.
    if (!child.pid) result.destroy(missingProgram(command, error));
  });
  stdout.on('error', (error) => result.destroy(error));
  stdout.pipe(result);
  return result;
}

/**
 * Pipes `input` through a program that writes to an open file itself. Resolves once the program has read all of `input`
 * and exited with status 0. If `input` fails, the program is killed.
 *
 * @param maxSize the largest size of the file, bytes
 * @throws the error of `input`, or of the filter; an error with the code ENOSPC if the disk is full
 */
export async function programIntoFile(
  input: Readable,
  filter: Filter,
  { fd, maxSize }: { fd: number; maxSize?: number | undefined },
): Promise<void> {
  const { child, command, stdin, exited } = start(filter, fd, maxSize);
  let inputError: Error | undefined;
  const fed = pipeline(input, stdin);
  fed.catch((error: NodeJS.ErrnoException) => {
    if (isOver(child, error)) return;
    inputError = error;
    child.kill('SIGKILL');
  });
  try {
    await exited;
  } catch (error) {
    if (!child.pid) throw missingProgram(command, error);
    throw inputError ?? error;
  }
  await fed;
}

/** Returns whether writing to a program failed because it ended early. Its exit status says why. */
function isOver({ exitCode, signalCode }: ChildProcess, error: NodeJS.ErrnoException): boolean {
  return exitCode !== null || signalCode !== null || error.syscall === 'write';
}

function missingProgram(command: string, cause: unknown): LifeboatError {
  return new LifeboatError('TOOL_FAILED', `the program ${command} could not be started`, {
    cause,
    hint: `Install ${command} where Lifeboat runs. Lifeboat's image contains it.`,
  });
}
