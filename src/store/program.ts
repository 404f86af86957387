import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type ErrorCode, LifeboatError } from '../errors.ts';

/** A program that turns a stream into another one. Secrets never go into `args`. */
export interface Filter {
  command: string;
  args: readonly string[];
  /** what it means when the program refuses its input */
  failure: { code: ErrorCode; message: string };
}

const STDERR_LIMIT = 2000;

/**
 * Runs `input` through a program. The result ends only after all of `input` was taken and the program ended with exit
 * status 0; otherwise it errors. Destroying the result kills the program and destroys `input`.
 */
export function throughProgram(input: Readable, filter: Filter): Readable {
  const child = spawn(filter.command, filter.args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-STDERR_LIMIT);
  });
  const exited = once(child, 'close').then(([status, signal]) => {
    if (status === 0) return;
    const how = status === null ? `was killed by ${signal}` : `ended with status ${status}`;
    const cause = new Error(`${filter.command} ${how}: ${stderr.trim() || 'no message'}`);
    throw new LifeboatError(filter.failure.code, filter.failure.message, { cause });
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
    if (error.code !== 'EPIPE' && !result.destroyed) result.destroy(error);
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
