import type { BigIntStats } from 'node:fs';

/** The types of directory entries. */
export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'char' | 'block';

/** The parts of `lstat` that Lifeboat uses. Times in nanoseconds since 1970. */
export interface FileStat {
  type: FileType;
  /** permission bits, with setuid, setgid and sticky */
  mode: number;
  uid: number;
  gid: number;
  /** bytes */
  size: number;
  mtime: bigint;
  ctime: bigint;
  ino: bigint;
  dev: bigint;
  nlink: number;
  /** when the inode was created; 0: the file system does not record it */
  born: bigint;
  /** true if the file has fewer blocks than its size requires */
  sparse: boolean;
  /** true if the last change is so recent that a further one could leave the same times */
  fresh: boolean;
  /** true if a further change could leave the same times, should another computer have set them */
  recent: boolean;
}

/** The kernel's clock for file times advances in ticks of up to 10 ms. */
const FRESH_MS = 20n;
/** The same for file systems that round times to one or two seconds, and for the clock of a server. */
const COARSE_MS = 3000n;
const MILLISECOND = 1_000_000n;
const SECOND = 1_000_000_000n;

/** Reduces the result of a stat call to a {@link FileStat}. `askedAt`: `Date.now()` before the call. */
export function fileStat(stats: BigIntStats, askedAt: number): FileStat {
  const [changed, written] = [BigInt(askedAt) - stats.ctimeMs, BigInt(askedAt) - stats.mtimeMs];
  // Any program can set an mtime in the future. A ctime in the future is a clock that differs.
  const recent = changed < COARSE_MS || (written >= 0n && written < COARSE_MS);
  const isCoarse = stats.ctimeNs % SECOND === 0n && stats.mtimeNs % SECOND === 0n;
  return {
    type: typeOf(stats),
    mode: Number(stats.mode & 0o7777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    size: Number(stats.size),
    mtime: stats.mtimeNs,
    ctime: stats.ctimeNs,
    ino: stats.ino,
    dev: stats.dev,
    nlink: Number(stats.nlink),
    born: stats.birthtimeNs,
    sparse: stats.isFile() && stats.blocks * 512n < stats.size,
    fresh: changed < FRESH_MS || (recent && isCoarse),
    recent,
  };
}

/**
 * Returns for how long {@link FileStat.recent} stays true if the file does not change, milliseconds. A ctime in the
 * future makes it longer than three seconds.
 */
export function recentFor({ ctime, mtime }: Pick<FileStat, 'ctime' | 'mtime'>, now: number): number {
  const [changed, written] = [BigInt(now) - ctime / MILLISECOND, BigInt(now) - mtime / MILLISECOND];
  return Number(COARSE_MS - (written >= 0n && written < changed ? written : changed));
}

function typeOf(stats: BigIntStats): FileType {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isFIFO()) return 'fifo';
  if (stats.isSocket()) return 'socket';
  return stats.isBlockDevice() ? 'block' : 'char';
}
