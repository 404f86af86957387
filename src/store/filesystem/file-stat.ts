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
  /** true if the file has fewer blocks than its size requires */
  sparse: boolean;
  /** true if the last change is so recent that a further one could leave the same times */
  fresh: boolean;
}

/** The kernel's clock for file times advances in ticks of up to 10 ms. */
const FRESH_MS = 20n;

/** Reduces the result of a stat call to a {@link FileStat}. `askedAt`: `Date.now()` before the call. */
export function fileStat(stats: BigIntStats, askedAt: number): FileStat {
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
    sparse: stats.isFile() && stats.blocks * 512n < stats.size,
    fresh: BigInt(askedAt) - stats.ctimeMs < FRESH_MS,
  };
}

function typeOf(stats: BigIntStats): FileType {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isFIFO()) return 'fifo';
  if (stats.isSocket()) return 'socket';
  return stats.isBlockDevice() ? 'block' : 'char';
}
