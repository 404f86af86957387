import { closeSync, fstatSync, readSync } from 'node:fs';
import { errorInfo, LifeboatError } from '../../base/errors.ts';
import { Directory } from '../filesystem/directory.ts';
import { fileStat } from '../filesystem/file-stat.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { pathFromText, pathUnder } from '../filesystem/path.ts';
import type { IndexLine } from '../filesystem/read-index.ts';
import { isSqlite, isWithoutItsLog, SQLITE_HEADER } from '../sqlite/sqlite-file.ts';
import { hashIs } from './live-file.ts';

/** The result of comparing a single mounted file with a snapshot of it. */
export interface FileComparison {
  /** content, owner and mode are equal */
  isEqual: boolean;
  /** the snapshot holds an SQLite database */
  isDatabase: boolean;
}

/**
 * Compares a single mounted file with the only file of a snapshot. Reads the content, and ignores times: a copy of the
 * file has others. An SQLite database whose log is out of reach never counts as equal, because the log may change its
 * content.
 *
 * @param place the directory of the file, its name there, and the index of the snapshot
 * @throws TREE_UNREADABLE
 */
export async function compareFile({
  root,
  name,
  index,
}: {
  root: string;
  name: string;
  index: AsyncIterable<IndexLine>;
}): Promise<FileComparison> {
  const files: IndexEntry[] = [];
  for await (const entry of index) if (entry.type !== 'directory' && entry.type !== 'part') files.push(entry);
  const [only, ...others] = files;
  if (only === undefined || others.length > 0) return { isEqual: false, isDatabase: false };
  const isDatabase = only.sqlite !== undefined;
  const path = pathFromText(name);
  const directory = Directory.open(root);
  try {
    const fd = directory.openFile(path);
    try {
      const isEqual =
        isSame(only, fd) && !isLogMissing(fd, pathUnder(root)(path)) && (await hashIs(fd, only, () => undefined));
      return { isEqual, isDatabase };
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw new LifeboatError('TREE_UNREADABLE', `the mounted file cannot be read: ${errorInfo(cause).message}`, {
      cause,
    });
  } finally {
    directory.close();
  }
}

function isSame(entry: IndexEntry, fd: number): boolean {
  const { type, mode, uid, gid, size } = fileStat(fstatSync(fd, { bigint: true }), Date.now());
  const same = mode === entry.mode && uid === entry.uid && gid === entry.gid && size === entry.size;
  return type === 'file' && entry.type === 'file' && same;
}

function isLogMissing(fd: number, absolute: Buffer): boolean {
  const header = Buffer.alloc(SQLITE_HEADER);
  const isWhole = readSync(fd, header, 0, header.length, 0) === header.length;
  return isWhole && isSqlite(header) && isWithoutItsLog(header, absolute, true);
}
