import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { arch, platform } from 'node:process';
import type { Readable, Writable } from 'node:stream';
import { LifeboatError } from '../../base/errors.ts';
import type { Directory } from './directory.ts';
import { isOfChange } from './disturbed.ts';
import { within } from './open-directories.ts';
import { displayPath, shorten, shortPath, split, type TreePath } from './path.ts';

/** Sets modification times in a tree. */
export interface TimeSetter {
  /**
   * Sets the time of one path, in nanoseconds since 1970. Symlinks are not followed, neither on the way nor at the end.
   * May take effect only at {@link finish}.
   */
  set(path: TreePath, mtime: bigint): Promise<void> | undefined;
  /** Waits until all times are set. Throws TOOL_FAILED if that fails, and {@link PathChanged} if a path has changed. */
  finish(): Promise<void>;
  /** Ends at once and discards pending times. */
  abort(): Promise<void>;
}

const BATCH = 64 * 1024;
const SECOND = 1_000_000_000n;

/** Exit status of perl if all failures are paths that no longer exist. */
const CHANGED_STATUS = 3;

/** The error for a path that is gone, or leads elsewhere, when its time is set. */
export class PathChanged extends Error {
  readonly path: TreePath;

  constructor(path: TreePath) {
    super(`${shortPath(path)} is gone`);
    this.path = path;
  }
}

/** Numbers of the system calls utimensat, openat and close, from the kernel's tables. */
const CALLS: Partial<Record<string, readonly number[]>> = { x64: [280, 257, 3], arm64: [88, 56, 57] };

/**
 * Reads records of seconds, nanoseconds and path, each ended by NUL, and sets only the modification time (1073741822 is
 * UTIME_OMIT, 256 AT_SYMLINK_NOFOLLOW). Descriptor 3 is the root of the tree. The directory of a path is entered from
 * there part by part, and stays open for the next record.
 */
const SCRIPT = `
my ($utimensat, $openat, $close, $flags) = map { $_ + 0 } @ARGV;
my ($failed, $at, $last) = (0, 3, "");
$/ = "\\0"; binmode STDIN;
sub enter {
  syscall($close, $at) if $at > 3;
  $at = 3; $last = "";
  for my $part (split m{/}, $_[0]) {
    my $next = syscall($openat, $at, $part, $flags, 0);
    my $error = $!;
    syscall($close, $at) if $at > 3;
    $at = 3; $! = $error;
    return 0 if $next < 0;
    $at = $next;
  }
  $last = $_[0];
  return 1;
}
while (defined(my $sec = <STDIN>)) {
  my $nsec = <STDIN>; my $path = <STDIN>; chomp($sec, $nsec, $path);
  my ($parent, $name) = $path =~ m{\\A(?:(.*)/)?([^/]*)\\z}s;
  $parent = "" unless defined $parent;
  $name = "." if $name eq "";
  my $times = pack("q4", 0, 1073741822, $sec, $nsec);
  next if ($parent eq $last || enter($parent)) && syscall($utimensat, $at, $name, $times, 256) == 0;
  # ENOENT, ENOTDIR and ELOOP: another program changed the path.
  my $changed = grep { $! == $_ } 2, 20, 40;
  $failed = $changed && $failed != 1 ? ${CHANGED_STATUS} : 1;
  print STDERR "$path: $!\\n";
}
exit $failed;`;

/**
 * Returns a setter for times exact to the nanosecond. The utimes of Node takes seconds as a double, which is off by up
 * to 238 ns, so one long-lived perl (essential on Debian) makes the system calls. Without perl, times have the
 * precision of Node.
 */
export async function createTimeSetter(root: Directory, program = 'perl'): Promise<TimeSetter> {
  const calls = platform === 'linux' ? CALLS[arch] : undefined;
  return (calls && (await startPerl(root, program, calls))) || roundedIn(root);
}

function roundedIn(root: Directory): TimeSetter {
  let changed: PathChanged | undefined;
  return {
    async set(path, mtime) {
      const { parent, name } = split(path);
      try {
        const done = within(root, parent, (directory) => {
          directory.setTime(name === '' ? '.' : name, Number(mtime) / 1e9);
          return true;
        });
        if (!done) changed ??= new PathChanged(path);
      } catch (error) {
        if (!isOfChange(error)) throw error;
        changed ??= new PathChanged(path);
      }
    },
    async finish() {
      if (changed) throw changed;
    },
    abort: async () => {},
  };
}

async function startPerl(root: Directory, program: string, calls: readonly number[]): Promise<TimeSetter | undefined> {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
  const child = spawn(program, ['-e', SCRIPT, ...[...calls, flags].map(String)], {
    stdio: ['pipe', 'ignore', 'pipe', root.fd],
  }) as ChildProcessByStdio<Writable, null, Readable>;
  try {
    await once(child, 'spawn');
  } catch {
    return undefined;
  }
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    if (stderr.length < 1000) stderr += chunk.toString('latin1');
  });
  // If perl ends early, its status shows that.
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
      const record = Buffer.concat([
        Buffer.from(`${(mtime - nanoseconds) / SECOND}\0${nanoseconds}\0`),
        Buffer.from(path, 'latin1'),
        NUL,
      ]);
      pending.push(record);
      size += record.length;
      return size >= BATCH ? flush() : undefined;
    },
    async finish() {
      child.stdin.end(Buffer.concat(pending));
      const [status] = await exited;
      // The path is on the first line, and may contain any character.
      if (status === CHANGED_STATUS) throw new PathChanged(/^(.*?): [^:]*$/ms.exec(stderr)?.[1] ?? '');
      if (status !== 0) {
        throw new LifeboatError('TOOL_FAILED', 'modification times could not be set', {
          cause: new Error(shorten(displayPath(stderr.trim()))),
        });
      }
    },
    async abort() {
      child.kill('SIGKILL');
      // Until perl ends, the directory is open and cannot be unmounted.
      await exited;
    },
  };
}

const NUL = Buffer.from([0]);
