import { type Duplex, PassThrough, type Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { LifeboatError, toLifeboatError } from '../base/errors.ts';
import type { ExecState } from './answers.ts';
import { interruption } from './bounds.ts';
import { Capture, lastWords } from './capture.ts';
import { frames, writeTo } from './demux.ts';
import type { Engine, ExecSpec } from './engine.ts';
import { isNotFound, statusOf } from './engine-errors.ts';
import { beating, withoutBeats } from './heartbeat.ts';

/** A command in a running container. */
export interface ExecOptions extends Omit<ExecSpec, 'stdin'> {
  /** `pipe`: stdin is written by the caller, who must end it. Default `none`: the command reads an empty input. */
  stdin?: 'pipe' | 'none';
  /** Default true: an exit status other than 0 is an error. */
  check?: boolean;
  /**
   * Seconds between signs of life of a command that may say nothing for long: a proxy before the engine cuts
   * connections that are silent (docker-socket-proxy: after ten minutes). They are NUL bytes on stderr, which is taken
   * out again. Needs `sh` and `sleep` in the container. Default: none.
   */
  heartbeat?: number;
  /** What of its stderr may stand in an error; default: all. */
  tellable?: (stderr: string) => string;
  /** Sees stderr as it comes; must be quick. */
  onStderr?: (chunk: Buffer) => void;
  /** Hears the engine's id of the command before it is started. */
  onCreated?: (execId: string) => void;
  signal?: AbortSignal | undefined;
}

export interface ExecStream {
  /** Ending it ends the command's input; destroying it fails the command. */
  stdin: Writable;
  /**
   * Must be read or resumed, else the command waits. It ends only after the engine confirmed the exit status: a command
   * that failed, or whose end is not known, makes it fail with the same error as `done`.
   */
  stdout: Readable;
  /** Settles when the command's end is known. Rejects with EXEC_FAILED, or with what went wrong with the engine. */
  done: Promise<{ exitCode: number }>;
}

const CAPTURE = 1024 * 1024;

/**
 * Starts a command in a running container. The engine ends the stream of a killed command or of a cut connection like
 * that of a good one, so success is what a later inspection says: not running, status 0. Aborting cuts the connection
 * and leaves the command running, which the API cannot end: run what may have to be ended in a helper.
 */
export async function execStream(engine: Engine, containerId: string, options: ExecOptions): Promise<ExecStream> {
  const { signal, check = true, stdin: stdinMode = 'none', onStderr, onCreated, ...more } = options;
  const { tellable = (stderr: string) => stderr, heartbeat, ...spec } = more;
  const name = `command ${JSON.stringify(spec.argv[0] ?? '')} in container ${containerId.slice(0, 12)}`;
  const argv = heartbeat === undefined ? spec.argv : beating(spec.argv, heartbeat);
  const execSpec = { ...spec, argv, stdin: stdinMode === 'pipe' };
  const { execId, socket } = await start(engine, containerId, execSpec, {
    name,
    signal,
    ...(onCreated && { onCreated }),
  });

  const stdout = new PassThrough({ highWaterMark: 256 * 1024 });
  // Whoever only waits for `done` must not be ended by an unheard error.
  stdout.on('error', () => {});
  // A reader that gives up closes the connection; the error below then says so.
  stdout.once('close', () => socket.destroy());
  const said: Said = { tellable, stdoutHead: new Capture(1024, 1024), stderr: new Capture(16 * 1024, 4096) };
  const input: Input = { error: undefined };
  const done = (async () => {
    try {
      const cut = await pump(socket, stdout, said, onStderr).catch((error: LifeboatError) => error);
      if (input.error || signal?.aborted || stdout.destroyed || cut?.code === 'ENGINE_PROTOCOL') throw cut;
      const exitCode = await exitStatus(engine, { execId, containerId, name }, said, signal);
      // A command that ends while it is being written to breaks the connection; its status says more than that.
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

interface Said {
  tellable: (stderr: string) => string;
  /** the runtime reports a command it cannot start on stdout */
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
    // Newer engines refuse here what older ones report in the stream.
    if (statusOf(error) !== undefined && /OCI runtime|executable file/.test(String(error))) {
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
  // When the command ends without reading its input, its own error says more than a broken pipe.
  const settle = (callback: (error?: Error | null) => void) => (error?: Error | null) => {
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
    write: (chunk: Buffer, _encoding, callback) => void socket.write(chunk, settle(callback)),
    final: (callback) => void socket.end(settle(callback)),
    destroy(error, callback) {
      if (mode === 'pipe' && !this.writableFinished && !socket.destroyed) {
        input.error = new LifeboatError('EXEC_FAILED', `the input of ${name} was cut`, { cause: error });
        socket.destroy(input.error);
      }
      callback(error);
    },
  });
  stdin.on('error', () => {});
  // Nothing is attached on the other side; closing the socket's half would be read as the caller hanging up.
  if (mode === 'none') stdin.destroy();
  return stdin;
}

/**
 * Waits for the engine to record the end. Throws for everything that is not a known end of the command's own making.
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
      const what = state.running ? 'was cut off while it still runs' : 'ended with an unknown status';
      throw failure(name, what, undefined, said);
    }
    await sleep(wait, undefined, signal ? { signal } : {});
  }
  // 137 is SIGKILL: somebody ended the command, its container, or the kernel did for want of memory.
  if (state.exitCode !== 137) return state.exitCode;
  const running = await engine.inspectContainer(containerId, { signal }).then(
    (container) => container.running,
    () => false,
  );
  throw failure(name, running ? 'was killed' : 'was killed with its container', 137, said);
}

function failure(name: string, what: string, exitCode: number | undefined, said: Said): LifeboatError {
  const notStarted = exitCode === 126 || exitCode === 127;
  const words = lastWords(`${said.tellable(said.stderr.text())}${notStarted ? `\n${said.stdoutHead.text()}` : ''}`);
  return new LifeboatError('EXEC_FAILED', `${name} ${what}${words ? `: ${words}` : ''}`);
}

interface ExecResult {
  exitCode: number;
  /** UTF-8; head and tail with a note in between when it is longer than `limit` */
  stdout: string;
  stderr: string;
  /** something was left out */
  truncated: boolean;
}

/**
 * Runs a command in a running container and keeps what it writes, at most `limit` bytes (default 1 MiB) of each output.
 * `input` is its whole stdin. Throws EXEC_FAILED like {@link execStream}; with `check: false` not for an exit status.
 */
export async function execText(
  engine: Engine,
  containerId: string,
  options: Omit<ExecOptions, 'stdin' | 'onStderr'> & { input?: string | Buffer; limit?: number },
): Promise<ExecResult> {
  const { input, limit = CAPTURE, ...rest } = options;
  const stdout = new Capture(limit);
  const stderr = new Capture(limit);
  const command = await execStream(engine, containerId, {
    ...rest,
    stdin: input === undefined ? 'none' : 'pipe',
    onStderr: (chunk) => stderr.add(chunk),
  });
  command.stdout.pipe(stdout);
  if (input !== undefined) command.stdin.end(input);
  const { exitCode } = await command.done;
  if (!stdout.writableFinished) await new Promise<void>((resolve) => stdout.once('finish', resolve));
  return { exitCode, stdout: stdout.text(), stderr: stderr.text(), truncated: stdout.truncated || stderr.truncated };
}
