import type { FileStat } from '../filesystem/file-stat.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { TreePath } from '../filesystem/path.ts';

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
