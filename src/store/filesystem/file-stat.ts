import type { BigIntStats } from 'node:fs';

/** The kinds of things a directory can hold. */
export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'char' | 'block';

/** What is kept of `lstat`. Times in nanoseconds since 1970. */
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
  /** has fewer blocks than its size needs */
  sparse: boolean;
  /** was changed so shortly before it was looked at that a further change could leave the same times */
  fresh: boolean;
}

/** The kernel's clock for file times moves in ticks of up to 10 ms. */
const FRESH_MS = 20n;

/** Reduces what the operating system says of a file to what is kept. `askedAt`: `Date.now()` before it was asked. */
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
