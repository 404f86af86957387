import { type Duplex, PassThrough, type Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { LifeboatError, toLifeboatError } from '../base/errors.ts';
import type { ExecState } from './answers.ts';
import { interruption } from './bounds.ts';
import { Capture, lastWords } from './capture.ts';
import { frames, writeTo } from './demux.ts';
import type { Engine, ExecSpec } from './engine.ts';
import { engineStatusOf, isNotFound } from './engine-errors.ts';
import { beating, withoutBeats } from './heartbeat.ts';

/** A command to run in a running container. */
export interface ExecOptions extends Omit<ExecSpec, 'stdin'> {
  /** `pipe`: the caller writes stdin, and must end it. Default `none`: the command reads an empty input. */
  stdin?: 'pipe' | 'none';
  /** Variables of the container that the command does not get. Removing them needs `env` in the container. */
  unset?: readonly string[];
  /** treats an exit status other than 0 as an error; default true */
  check?: boolean;
  /**
   * Seconds between heartbeats of a command that may be silent for long. A proxy in front of the engine cuts silent
   * connections (docker-socket-proxy: after ten minutes). Heartbeats are NUL bytes on stderr, which are filtered out.
   * They need `sh` and `sleep` in the container. Default: none.
   */
  heartbeat?: number;
  /** Returns the part of stderr that an error may contain; default: all of it. */
  redact?: (stderr: string) => string;
  /** Called with each chunk of stderr; must be quick. */
  onStderr?: (chunk: Buffer) => void;
  /** Called with the engine's id of the command before it starts. */
  onCreated?: (execId: string) => void;
  signal?: AbortSignal | undefined;
}

export interface ExecStream {
  /** Ending this stream ends the command's input. Destroying it fails the command. */
  stdin: Writable;
  /**
   * Must be read or resumed, otherwise the command blocks. It ends only after the engine has confirmed the exit status.
   * If the command fails, or its end is unknown, this stream fails with the same error as `done`.
   */
  stdout: Readable;
  /** Resolves when the command has ended. Rejects with EXEC_FAILED, or with the error of the engine. */
  done: Promise<{ exitCode: number }>;
}

const CAPTURE = 1024 * 1024;

/**
 * Starts a command in a running container. When a command is killed or a connection is cut, the engine ends the stream
 * as it does after a success. So the command succeeds only if a later inspection reports it as ended with status 0.
 * Aborting cuts the connection and leaves the command running, because the API cannot end it. Use a helper for commands
 * that may have to be ended.
 */
export async function execStream(engine: Engine, containerId: string, options: ExecOptions): Promise<ExecStream> {
  const { signal, check = true, stdin: stdinMode = 'none', onStderr, onCreated, ...more } = options;
  const { redact = (stderr: string) => stderr, heartbeat, unset = [], ...spec } = more;
  const name = `command ${JSON.stringify(spec.argv[0] ?? '')} in container ${containerId.slice(0, 12)}`;
  const whole = without(unset, spec.argv);
  const argv = heartbeat === undefined ? whole : beating(whole, heartbeat);
  const execSpec = { ...spec, argv, stdin: stdinMode === 'pipe' };
  const { execId, socket } = await start(engine, containerId, execSpec, {
    name,
    signal,
    ...(onCreated && { onCreated }),
  });

  const stdout = new PassThrough({ highWaterMark: 256 * 1024 });
  // A caller that only awaits `done` must not crash on an unhandled error.
  stdout.on('error', () => {});
  // A reader that gives up closes the connection, and the error below reports it.
  stdout.once('close', () => socket.destroy());
  const said: Said = { redact, stdoutHead: new Capture(1024, 1024), stderr: new Capture(16 * 1024, 4096) };
  const input: Input = { error: undefined };
  const done = (async () => {
    try {
      const cut = await pump(socket, stdout, said, onStderr).catch((error: LifeboatError) => error);
      if (input.error || signal?.aborted || stdout.destroyed || cut?.code === 'ENGINE_PROTOCOL') throw cut;
      const exitCode = await exitStatus(engine, { execId, containerId, name }, said, signal);
      // A command that ends while its input is being written breaks the connection. Its exit status says more than
      // that.
      if ((check || cut) && exitCode !== 0) throw failure(name, `ended with status ${exitCode}`, exitCode, said);
      if (cut) throw cut;
      stdout.end();
      return { exitCode };
    } catch (error) {
      const coded = toLifeboatError(input.error ?? (signal?.aborted ? interruption(signal) : error));
      stdout.destroy(coded);
      socket.destroy();
      throw coded;
    }
  })();
  done.catch(() => {});
  return { stdin: stdinOf(socket, done, input, { name, mode: stdinMode }), stdout, done };
}

/** Docker removes a variable whose name has no value, but the API does not document that, and Podman refuses it. */
function without(names: readonly string[], argv: readonly string[]): readonly string[] {
  return names.length === 0 ? argv : ['env', ...names.flatMap((name) => ['-u', name]), ...argv];
}

interface Said {
  redact: (stderr: string) => string;
  /** the runtime writes to stdout why a command cannot be started */
  stdoutHead: Capture;
  stderr: Capture;
}

interface Input {
  error: LifeboatError | undefined;
}

async function start(
  engine: Engine,
  containerId: string,
  spec: ExecSpec,
  { name, signal, onCreated }: Pick<ExecOptions, 'signal' | 'onCreated'> & { name: string },
): Promise<{ execId: string; socket: Duplex }> {
  const execId = await engine.execCreate(containerId, spec, { signal });
  onCreated?.(execId);
  try {
    return { execId, socket: await engine.execStart(execId, { signal }) };
  } catch (error) {
    // Newer engines refuse here; older ones report this in the stream.
    if (engineStatusOf(error) !== undefined && /OCI runtime|executable file/.test(String(error))) {
      throw new LifeboatError('EXEC_FAILED', `${name} could not be started`, { cause: error });
    }
    throw error;
  }
}

async function pump(
  socket: Duplex,
  stdout: Writable,
  said: Said,
  onStderr: ((chunk: Buffer) => void) | undefined,
): Promise<undefined> {
  for await (const { stream, data } of frames(socket)) {
    if (stream === 'stderr') {
      const words = withoutBeats(data);
      said.stderr.add(words);
      onStderr?.(words);
    } else {
      if (said.stdoutHead.total < 1024) said.stdoutHead.add(data);
      await writeTo(stdout, data);
    }
  }
}

function stdinOf(
  socket: Duplex,
  done: Promise<unknown>,
  input: Input,
  { name, mode }: { name: string; mode: 'pipe' | 'none' },
): Writable {
  // If the command ends without reading its input, its own error says more than a broken pipe.
  const reportEnd = (callback: (error?: Error | null) => void) => (error?: Error | null) => {
    if (!error) return callback();
    const unread = () =>
      new LifeboatError('EXEC_FAILED', `${name} ended before it read all its input`, { cause: error });
    done.then(
      () => callback(unread()),
      (reason: Error) => callback(reason),
    );
  };
  const stdin = new Writable({
    decodeStrings: true,
    highWaterMark: 256 * 1024,
    write: (chunk: Buffer, _encoding, callback) => void socket.write(chunk, reportEnd(callback)),
    final: (callback) => void socket.end(reportEnd(callback)),
    destroy(error, callback) {
      if (mode === 'pipe' && !this.writableFinished && !socket.destroyed) {
        input.error = new LifeboatError('EXEC_FAILED', `the input of ${name} was cut`, { cause: error });
        socket.destroy(input.error);
      }
      callback(error);
    },
  });
  stdin.on('error', () => {});
  // Nothing is attached to stdin. Closing our half of the socket would look like a disconnect.
  if (mode === 'none') stdin.destroy();
  return stdin;
}

/**
 * Waits until the engine records the exit status.
 *
 * @throws EXEC_FAILED if the command did not end by itself
 */
async function exitStatus(
  engine: Engine,
  { execId, containerId, name }: Record<'execId' | 'containerId' | 'name', string>,
  said: Said,
  signal: AbortSignal | undefined,
): Promise<number> {
  const deadline = performance.now() + engine.exitLagMs;
  let state: ExecState | undefined;
  for (let wait = 10; ; wait = Math.min(wait * 2, 500)) {
    state = await engine.execInspect(execId, { signal }).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (!state) throw failure(name, 'lost its container', undefined, said);
    if (!state.running && state.exitCode !== null) break;
    if (performance.now() > deadline) {
      const what = state.running ? 'was cut off, but still runs' : 'ended with an unknown status';
      throw failure(name, what, undefined, said);
    }
    await sleep(wait, undefined, signal ? { signal } : {});
  }
  // 137 is SIGKILL: somebody killed the command or its container, or the kernel did because memory ran out.
  if (state.exitCode !== 137) return state.exitCode;
  const running = await engine.inspectContainer(containerId, { signal }).then(
    (container) => container.running,
    () => false,
  );
  throw failure(name, running ? 'was killed' : 'was killed with its container', 137, said);
}

function failure(name: string, what: string, exitCode: number | undefined, said: Said): LifeboatError {
  const notStarted = exitCode === 126 || exitCode === 127;
  const words = lastWords(`${said.redact(said.stderr.text())}${notStarted ? `\n${said.stdoutHead.text()}` : ''}`);
  return new LifeboatError('EXEC_FAILED', `${name} ${what}${words ? `: ${words}` : ''}`);
}

interface ExecResult {
  exitCode: number;
  /** UTF-8; if it is longer than `limit`, its start and end with a note in between */
  stdout: string;
  stderr: string;
  /** some output was left out */
  truncated: boolean;
}

/**
 * Runs a command in a running container, and returns its output: at most `limit` bytes (default 1 MiB) of each stream.
 * `input` is the whole stdin. `stdin: 'pipe'` without it is an input that ends with the connection.
 *
 * @throws EXEC_FAILED as {@link execStream} does; with `check: false` not for the exit status
 */
export async function execText(
  engine: Engine,
  containerId: string,
  options: Omit<ExecOptions, 'onStderr'> & { input?: string | Buffer; limit?: number },
): Promise<ExecResult> {
  const { input, stdin = input === undefined ? 'none' : 'pipe', limit = CAPTURE, ...rest } = options;
  const stdout = new Capture(limit);
  const stderr = new Capture(limit);
  const command = await execStream(engine, containerId, {
    ...rest,
    stdin,
    onStderr: (chunk) => stderr.add(chunk),
  });
  command.stdout.pipe(stdout);
  if (input !== undefined) command.stdin.end(input);
  const { exitCode } = await command.done;
  if (!stdout.writableFinished) await new Promise<void>((resolve) => stdout.once('finish', resolve));
  return { exitCode, stdout: stdout.text(), stderr: stderr.text(), truncated: stdout.truncated || stderr.truncated };
}
