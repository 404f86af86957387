import type { Duplex } from 'node:stream';
import { Capture } from './capture.ts';
import type { Engine } from './engine.ts';
import { ExecSocket } from './exec-socket.ts';
import { type ExecOptions, execStream } from './exec-stream.ts';

const CAPTURE = 1024 * 1024;

export interface ExecResult {
  exitCode: number;
  /** UTF-8; head and tail with a note in between when it is longer than `limit` */
  stdout: string;
  stderr: string;
  /** something was left out */
  truncated: boolean;
}

/**
 * Runs a command in a running container and keeps what it writes, at most `limit` bytes (default 1 MiB) of each output.
 * `stdin` is its whole input. Throws EXEC_FAILED like {@link execStream}; with `check: false` not for an exit status.
 */
export async function execText(
  engine: Engine,
  containerId: string,
  options: Omit<ExecOptions, 'stdin' | 'onStderr'> & { stdin?: string | Buffer; limit?: number },
): Promise<ExecResult> {
  const { stdin, limit = CAPTURE, ...rest } = options;
  const stdout = new Capture(limit);
  const stderr = new Capture(limit);
  const command = await execStream(engine, containerId, {
    ...rest,
    stdin: stdin === undefined ? 'none' : 'pipe',
    onStderr: (chunk) => stderr.add(chunk),
  });
  command.stdout.pipe(stdout);
  if (stdin !== undefined) command.stdin.end(stdin);
  const { exitCode } = await command.done;
  if (!stdout.writableFinished) await new Promise<void>((resolve) => stdout.once('finish', resolve));
  return { exitCode, stdout: stdout.text(), stderr: stderr.text(), truncated: stdout.truncated || stderr.truncated };
}

/**
 * A Duplex over the input and output of a command in a running container. It can be pg's connection:
 * `const stream = await execSocket(engine, helper.id, tunnelArgv(5432)); new Client({ stream: () => stream })`.
 * It ends when the command ended well, else it fails with EXEC_FAILED and the command's last words. Destroying it, or
 * aborting, closes the command's input and output.
 */
export async function execSocket(
  engine: Engine,
  containerId: string,
  argv: readonly string[],
  options: { signal?: AbortSignal } = {},
): Promise<Duplex> {
  return new ExecSocket(await execStream(engine, containerId, { ...options, argv, stdin: 'pipe' }));
}

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
