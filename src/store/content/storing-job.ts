import { hash } from 'node:crypto';
import type { FileStat } from '../filesystem/file-stat.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { TreePath } from '../filesystem/path.ts';
import type { SmallRead } from '../filesystem/read-file.ts';
import { HashTable } from '../known/hash-table.ts';
import type { Content } from './known.ts';

/** A name that the walk found, on its way into the index. Jobs finish in order; small files are read ahead. */
export interface Job {
  path: TreePath;
  stat: FileStat;
  /** target of a symlink */
  target: TreePath | undefined;
  /** set if the file need not be read */
  unchanged?: Content | undefined;
  /** set if nothing indicates that the file has changed, but its packs cannot all be reused */
  former?: Content | undefined;
  /** set if a small file must be read */
  reading?: Promise<SmallRead>;
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

/** A value has the offset of a line, and how many names of its file were seen, below this number. */
const NAMES = 65_536;

/**
 * Where the index lists the first names of files with several names. It takes 23 to 46 bytes for each such file. Names
 * outside of the tree never appear, so most entries may have to stay until the end. A new file that has the inode of a
 * deleted one is not taken for another name of it.
 */
export class FirstLinks {
  private readonly table = new HashTable();
  /** files whose first name is being read */
  private readonly reading = new Set<string>();

  /** Returns true if another name of the file is being read now. Otherwise, the caller reads this one. */
  isRead(stat: FileStat): boolean {
    const key = keyOf(stat);
    if (this.reading.has(key) || this.find(stat) !== undefined) return true;
    this.reading.add(key);
    return false;
  }

  /** Records the line of a first name. `offset`: in the index, bytes. */
  add(stat: FileStat, offset: number): void {
    this.table.set(keyOf(stat), offset * NAMES + 1);
  }

  /** Returns the offset of the line of a first name, bytes. Undefined if there is none, or all names were seen. */
  find(stat: FileStat): number | undefined {
    const value = this.table.get(keyOf(stat)) ?? 0;
    return value === 0 ? undefined : Math.floor(value / NAMES);
  }

  /** Counts another name. Once all were seen, a later file may have the same inode. */
  see(stat: FileStat): void {
    const key = keyOf(stat);
    const value = (this.table.get(key) ?? 0) + 1;
    this.table.set(key, value % NAMES >= Math.min(stat.nlink, NAMES - 1) ? 0 : value);
  }

  /** Forgets that a name was being read. */
  wasRead(stat: FileStat): void {
    this.reading.delete(keyOf(stat));
  }
}

/**
 * The same for all names of a file. A deleted file's inode is soon used again, at a later time of birth. On a file
 * system without such times, a file that is written to between two of its names is stored as two files.
 */
function keyOf({ dev, ino, born, size, mtime }: FileStat): string {
  return hash('sha256', born > 0n ? `${dev}:${ino}:${born}` : `${dev}:${ino}:${size}:${mtime}`);
}
