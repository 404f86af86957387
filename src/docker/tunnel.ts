import { Duplex } from 'node:stream';
import type { Engine } from './engine.ts';
import { type ExecOptions, type ExecStream, execStream } from './exec.ts';
import { HEARTBEAT_S } from './heartbeat.ts';

const BUFFER = 256 * 1024;

/**
 * Joins stdin and stdout with a TCP connection made in the container's network namespace. bash cannot close one
 * direction of a socket, so: when the server closes, the exec ends with status 0; when our side closes, the server has
 * two seconds to answer and close before the connection is dropped. Job control gives each direction a process group of
 * its own, so that ending it leaves no process behind; it also keeps bash from giving the writer an empty input. 69 is
 * EX_UNAVAILABLE of sysexits.h.
 */
const TUNNEL = `
set -m
exec 3<>"/dev/tcp/$1/$2" || exit 69
exec 4<&0 2>/dev/null
cat <&3 4<&- & reader=$!
{ cat <&4 >&3; sleep 2; kill -- "-$reader"; } >/dev/null & writer=$!
exec 3<&- 4<&- 0<&-
wait "$reader"
kill -- "-$writer"
exit 0
`;

/** Command line of a tunnel to a TCP port, for {@link execSocket}. The container needs bash, cat and sleep. */
export function tunnelArgv(port: number, host = '127.0.0.1'): string[] {
  return ['bash', '-c', TUNNEL, 'tunnel', host, String(port)];
}

/**
 * A Duplex over the input and output of a command in a running container, opened at once. It can be pg's connection:
 * `new Client({ stream: () => execSocket(engine, helper.id, tunnelArgv(5432)) })`. It ends when the command ended well,
 * else it fails with EXEC_FAILED and the command's last words. Destroying it, or aborting, closes the command's input
 * and output.
 */
export function execSocket(
  engine: Engine,
  containerId: string,
  argv: readonly string[],
  { heartbeat = HEARTBEAT_S, ...options }: Pick<ExecOptions, 'signal' | 'heartbeat'> = {},
): Duplex {
  return new ExecSocket(() => execStream(engine, containerId, { ...options, argv, heartbeat, stdin: 'pipe' }));
}

/** See {@link execSocket}. Has the members of a net.Socket that pg uses. */
class ExecSocket extends Duplex {
  readonly #open: () => Promise<ExecStream>;
  readonly #opened = Promise.withResolvers<void>();
  #exec: ExecStream | undefined;

  constructor(open: () => Promise<ExecStream>) {
    super({ allowHalfOpen: false, readableHighWaterMark: BUFFER, writableHighWaterMark: BUFFER });
    this.#open = open;
  }

  override _construct(callback: (error?: Error | null) => void): void {
    this.#open().then((exec) => {
      this.#exec = exec;
      exec.stdout.on('data', (chunk: Buffer) => {
        if (!this.push(chunk)) exec.stdout.pause();
      });
      exec.stdout.on('end', () => this.push(null));
      exec.stdout.on('error', (error) => this.destroy(error));
      callback();
      this.#opened.resolve();
    }, callback);
  }

  override _read(): void {
    this.#exec?.stdout.resume();
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#exec?.stdin.write(chunk, callback);
  }

  // Without it a query's messages go out one by one and meet delayed acknowledgements: 16 ms instead of 0.3.
  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'buffer', callback);
  }

  override _final(callback: () => void): void {
    // Failing to close what the other side closed already is no failure; a real one comes through stdout.
    this.#exec?.stdin.end(() => callback());
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#exec?.stdout.destroy();
    callback(error);
  }

  /** It is being opened already, but pg waits for the event. */
  connect(): this {
    void this.#opened.promise.then(() => this.emit('connect'));
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}
