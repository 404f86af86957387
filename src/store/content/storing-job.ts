import type { FileStat } from '../filesystem/file-stat.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { TreePath } from '../filesystem/path.ts';
import type { SmallRead } from '../filesystem/read-file.ts';
import type { Content, PartLines } from './known.ts';

/** A name that the walk found, on its way into the index. Jobs finish in order; small files are read ahead. */
export interface Job {
  path: TreePath;
  stat: FileStat;
  /** target of a symlink */
  target: TreePath | undefined;
  /** set if the file need not be read */
  unchanged: Content | undefined;
  /** set if a small file must be read */
  reading?: Promise<SmallRead>;
}

/** The first name of a file with several names. */
export interface FirstLink {
  entry: IndexEntry | undefined;
  parts?: PartLines | undefined;
  seen: number;
}

/** The time of all files of a tree that was made for its run: 2000-01-01, nanoseconds since 1970. */
export const MADE = 946_684_800_000_000_000n;

/** Returns the part of an index line that comes from `lstat`. */
export function metadata(path: TreePath, stat: FileStat): IndexEntry {
  return { path, type: stat.type, mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime };
}

/** Returns whether nothing indicates that a file was written to after its index line was made. */
export function isUnchanged(stat: FileStat, { size, mtime, ctime, ino }: IndexEntry): boolean {
  return size === stat.size && mtime === stat.mtime && ctime === stat.ctime && ino === stat.ino;
}

/** Returns a key that is the same for all names of a file. */
export function linkKey(stat: FileStat): string {
  return `${stat.dev}:${stat.ino}`;
}
