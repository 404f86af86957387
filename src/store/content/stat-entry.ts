import type { FileStat } from '../filesystem/file-stat.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { TreePath } from '../filesystem/path.ts';

/** The part of an index line that a look at a file gives. */
export function metadata(path: TreePath, stat: FileStat): IndexEntry {
  return { path, type: stat.type, mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime };
}

/** True when nothing shows that a file was written to since its index line was made. */
export function isUnchanged(stat: FileStat, { size, mtime, ctime, ino }: IndexEntry): boolean {
  return size === stat.size && mtime === stat.mtime && ctime === stat.ctime && ino === stat.ino;
}

/** The same for all names of one file. */
export function linkKey(stat: FileStat): string {
  return `${stat.dev}:${stat.ino}`;
}
