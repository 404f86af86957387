import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lutimes } from 'node:fs/promises';
import { arch, platform } from 'node:process';
import { LifeboatError } from '../errors.ts';

/** Sets modification times. */
export interface TimeSetter {
  /** `mtime` in nanoseconds since 1970. Symlinks are not followed. May only take effect at {@link finish}. */
  set(path: Buffer, mtime: bigint): Promise<void> | undefined;
  /** Waits until every time is set. Throws TOOL_FAILED when one could not be. */
  finish(): Promise<void>;
  /** Ends without waiting. */
  abort(): void;
}

const BATCH = 64 * 1024;
const SECOND = 1_000_000_000n;

/** Numbers of the system call utimensat, from the kernel's tables. */
const UTIMENSAT: Partial<Record<string, number>> = { x64: 280, arm64: 88 };

/**
 * Reads records of seconds, nanoseconds and path, each ended by NUL, and sets the modification time alone
 * (1073741822 is UTIME_OMIT, -100 AT_FDCWD, 256 AT_SYMLINK_NOFOLLOW).
 */
const SCRIPT = `
my $number = shift; my $failed = 0; $/ = "\\0"; binmode STDIN;
while (defined(my $sec = <STDIN>)) {
  my $nsec = <STDIN>; my $path = <STDIN>; chomp($sec, $nsec, $path);
  my $times = pack("q4", 0, 1073741822, $sec, $nsec);
  if (syscall($number, -100, $path, $times, 256) != 0) { $failed = 1; print STDERR "$path: $!\\n" }
}
exit $failed;`;

/**
 * Sets times exactly to the nanosecond. Node's own utimes takes seconds as a double, which is off by up to 238 ns; so one
 * long-lived perl (essential on Debian) makes the system call. Without it, Node's precision has to do.
 */
export async function createTimeSetter(program = 'perl'): Promise<TimeSetter> {
  const number = platform === 'linux' ? UTIMENSAT[arch] : undefined;
  return (number !== undefined && (await startPerl(program, number))) || rounded;
}

const rounded: TimeSetter = {
  set: (path, mtime) => lutimes(path, new Date(), Number(mtime) / 1e9),
  finish: async () => {},
  abort: () => {},
};

async function startPerl(program: string, number: number): Promise<TimeSetter | undefined> {
  const child = spawn(program, ['-e', SCRIPT, String(number)], { stdio: ['pipe', 'ignore', 'pipe'] });
  try {
    await once(child, 'spawn');
  } catch {
    return undefined;
  }
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    if (stderr.length < 1000) stderr += chunk.toString('utf8');
  });
  // A perl that ends early shows by its status.
  child.stdin.on('error', () => {});
  const exited = once(child, 'close');
  let pending: Buffer[] = [];
  let size = 0;
  const flush = async () => {
    const batch = Buffer.concat(pending);
    pending = [];
    size = 0;
    if (!child.stdin.write(batch)) await Promise.race([once(child.stdin, 'drain'), exited]);
  };
  return {
    set(path, mtime) {
      const nanoseconds = ((mtime % SECOND) + SECOND) % SECOND;
      const record = Buffer.concat([Buffer.from(`${(mtime - nanoseconds) / SECOND}\0${nanoseconds}\0`), path, NUL]);
      pending.push(record);
      size += record.length;
      return size >= BATCH ? flush() : undefined;
    },
    async finish() {
      child.stdin.end(Buffer.concat(pending));
      const [status] = await exited;
      if (status !== 0) {
        throw new LifeboatError('TOOL_FAILED', 'modification times could not be set', {
          cause: new Error(stderr.trim()),
        });
      }
    },
    abort() {
      child.kill('SIGKILL');
    },
  };
}

const NUL = Buffer.from([0]);
