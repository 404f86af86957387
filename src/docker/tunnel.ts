import { Duplex } from 'node:stream';
import type { Engine } from './engine.ts';
import { type ExecOptions, type ExecStream, execStream } from './exec.ts';
import { HEARTBEAT_S } from './heartbeat.ts';

const BUFFER = 256 * 1024;

/**
 * Connects stdin and stdout to a TCP connection in the container's network namespace. bash cannot close one direction
 * of a socket. So when the server closes, the exec ends with status 0. When our side closes, the server has two seconds
 * to answer and close before the connection is dropped. Job control gives each direction its own process group, so
 * ending it leaves no process behind. It also keeps bash from giving the writer an empty input. 69 is EX_UNAVAILABLE of
 * sysexits.h.
 *
 * dd copies, because the cat of BusyBox calls sendfile. From a socket to a pipe, Linux holds the lock of the pipe until
 * the next bytes arrive (splice_file_to_pipe), so nobody can read the bytes that are in the pipe.
 */
const TUNNEL = `
set -m
exec 3<>"/dev/tcp/$1/$2" || exit 69
exec 4<&0 2>/dev/null
dd bs=256k <&3 4<&- & reader=$!
{ dd bs=256k <&4 >&3; sleep 2; kill -- "-$reader"; } >/dev/null & writer=$!
exec 3<&- 4<&- 0<&-
wait "$reader"
kill -- "-$writer"
exit 0
`;

/** Images based on Alpine may lack bash, but have BusyBox, whose `nc` copies both directions. */
const TUNNEL_OR_NC = `command -v bash >/dev/null && exec bash -c "$0" tunnel "$@"; exec nc "$@"`;

/**
 * Returns the command line of a tunnel to a TCP port, for {@link execSocket}. The container needs bash, dd and sleep,
 * or the `nc` of BusyBox.
 */
export function tunnelArgv(port: number, host = '127.0.0.1'): string[] {
  return ['sh', '-c', TUNNEL_OR_NC, TUNNEL, host, String(port)];
}

/** Connects to a Unix socket, which bash cannot open. */
const SOCKET_TUNNEL = `
use Socket;
my $server;
socket($server, PF_UNIX, SOCK_STREAM, 0) && connect($server, pack_sockaddr_un($ARGV[0]))
  or (print STDERR "$ARGV[0]: $!\\n"), exit 69;
sub copy {
  my ($from, $to) = @_;
  while (sysread($from, my $bytes, 262144)) {
    for (my $at = 0; $at < length $bytes;) { $at += syswrite($to, $bytes, length($bytes) - $at, $at) || exit 0 }
  }
}
my $reader = $$;
my $writer = fork // exit 71;
if (!$writer) {
  copy(*STDIN, $server);
  shutdown($server, 1);
  sleep 2;
  kill 'KILL', $reader if getppid == $reader;
  exit 0;
}
copy($server, *STDOUT);
kill 'KILL', $writer;
exit 0;
`;

/** Returns the command line of a tunnel to a Unix socket, for {@link execSocket}. The container needs perl. */
export function socketTunnelArgv(path: string): string[] {
  return ['perl', '-e', SOCKET_TUNNEL, path];
}

/**
 * Opens a Duplex over the input and output of a command in a running container. pg can use it as its connection: `new
 * Client({ stream: () => execSocket(engine, helper.id, tunnelArgv(5432)) })`. It ends when the command succeeds.
 * Otherwise it fails with EXEC_FAILED and the end of the command's stderr. Destroying it, or aborting, closes the
 * command's input and output.
 */
export function execSocket(
  engine: Engine,
  containerId: string,
  argv: readonly string[],
  { heartbeat = HEARTBEAT_S, ...options }: Pick<ExecOptions, 'signal' | 'heartbeat'> = {},
): Duplex {
  return new ExecSocket(() => execStream(engine, containerId, { ...options, argv, heartbeat, stdin: 'pipe' }));
}

/** See {@link execSocket}. Implements the members of net.Socket that pg uses. */
class ExecSocket extends Duplex {
  private readonly openExec: () => Promise<ExecStream>;
  private readonly opened = Promise.withResolvers<void>();
  private exec: ExecStream | undefined;

  constructor(open: () => Promise<ExecStream>) {
    super({ allowHalfOpen: false, readableHighWaterMark: BUFFER, writableHighWaterMark: BUFFER });
    this.openExec = open;
  }

  override _construct(callback: (error?: Error | null) => void): void {
    this.openExec().then((exec) => {
      this.exec = exec;
      exec.stdout.on('data', (chunk: Buffer) => {
        if (!this.push(chunk)) exec.stdout.pause();
      });
      exec.stdout.on('end', () => this.push(null));
      exec.stdout.on('error', (error) => this.destroy(error));
      callback();
      this.opened.resolve();
    }, callback);
  }

  override _read(): void {
    this.exec?.stdout.resume();
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.exec?.stdin.write(chunk, callback);
  }

  // Without this, the messages of a query are sent one by one and wait for delayed acknowledgements: 16 ms instead of
  // 0.3.
  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'buffer', callback);
  }

  override _final(callback: () => void): void {
    // If the other side has closed already, closing fails harmlessly. A real failure arrives through stdout.
    this.exec?.stdin.end(() => callback());
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.exec?.stdout.destroy();
    callback(error);
  }

  /** The connection is opening already, but pg waits for the event. */
  connect(): this {
    void this.opened.promise.then(() => this.emit('connect'));
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
