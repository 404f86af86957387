import { hash } from 'node:crypto';
import { type BigIntStats, closeSync, fstatSync, lstatSync, openSync, readSync } from 'node:fs';
import { hasErrno } from '../../base/errors.ts';
import { type FileStat, fileStat } from '../filesystem/file-stat.ts';
import { isFreshAt } from '../filesystem/file-system.ts';
import { isMountPoint } from '../filesystem/mount-point.ts';
import type { TreePath } from '../filesystem/path.ts';
import { READ_FLAGS } from '../filesystem/read-file.ts';

/** https://www.sqlite.org/fileformat2.html#the_database_header */
const MAGIC = Buffer.from('SQLite format 3\0', 'latin1');
/**
 * Size of the smallest page, and so of the smallest database. The size of every database is a multiple of it. Bytes.
 */
export const SQLITE_PAGE = 512;
/** Number of bytes that {@link isSqlite} needs. */
export const SQLITE_HEADER = 100;

/** The endings of the files that SQLite keeps next to a database: https://www.sqlite.org/tempfiles.html */
const COMPANIONS = ['-wal', '-shm', '-journal'] as const;
type Companion = (typeof COMPANIONS)[number];

/**
 * The state of a database that the next run must read again: one of its files has just changed, or it was not stored as
 * a consistent copy.
 */
export const UNSETTLED = 'unsettled';

/** Returns whether a file that starts with these bytes is an SQLite database. The name of the file does not matter. */
export function isSqlite(start: Uint8Array): boolean {
  return MAGIC.equals(start.subarray(0, MAGIC.length));
}

/** Returns whether a file starts like a database; false if there is none, or it cannot be read. */
export function isSqliteAt(path: Buffer): boolean {
  return withHeaderAt(path, () => true) ?? false;
}

/** Like {@link isWithoutItsLog}, for a path. Returns false for a file that is not a database. */
export function isWithoutItsLogAt(path: Buffer, isFileMount: boolean): boolean {
  return (
    withHeaderAt(path, (fd, header) => isWithoutItsLog(header, path, isMountedAlone(fd, path, isFileMount))) ?? false
  );
}

/**
 * Calls `use` with the open file and its header. Returns undefined if the file is not a database, or cannot be read.
 */
function withHeaderAt<T>(path: Buffer, use: (fd: number, header: Buffer) => T): T | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(path, READ_FLAGS);
    const start = Buffer.alloc(SQLITE_HEADER);
    const isDatabase = readSync(fd, start, 0, start.length, 0) === start.length && isSqlite(start);
    return isDatabase ? use(fd, start) : undefined;
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/**
 * Returns whether the log of a database is out of reach: the database uses one, is mounted as a single file, and has no
 * log next to it here. The application's SQLite then keeps the log in the file system of the application's container.
 */
export function isWithoutItsLog(header: Uint8Array, absolute: Buffer, isAlone: boolean): boolean {
  return isAlone && usesWal(header) && companionAt(absolute, '-wal') === undefined;
}

/**
 * Returns whether a database is mounted as a single file: here, or by a container.
 *
 * @param fd the open database
 * @param isFileMount a container mounts the file, see file-mounts.ts
 */
export function isMountedAlone(fd: number, absolute: Buffer, isFileMount: boolean): boolean {
  return isFileMount || isMountPoint(fd, absolute);
}

/** Returns whether the header says that changes go through a write-ahead log. */
export function usesWal(header: Uint8Array): boolean {
  return header[18] === 2 && header[19] === 2;
}

/** Returns the paths of a database's companions in a tree. */
export function companionsOf(path: TreePath): TreePath[] {
  return COMPANIONS.map((companion) => path + companion);
}

export function companionPath(absolute: Buffer, companion: Companion): Buffer {
  return Buffer.concat([absolute, Buffer.from(companion)]);
}

/**
 * Returns the stat of a companion that is a regular file and not empty. Like SQLite, it does not follow symlinks. The
 * ctime of a journal is its mtime: when root reads the database, SQLite sets the owner of a journal that stays, which
 * changes nothing but its ctime.
 */
export function companionAt(absolute: Buffer, companion: Companion): FileStat | undefined {
  const askedAt = Date.now();
  try {
    const path = companionPath(absolute, companion);
    const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    if (!stats?.isFile() || stats.size === 0n) return undefined;
    const stat = statAt(path, stats, askedAt);
    return companion === '-journal' ? { ...stat, ctime: stat.mtime } : stat;
  } catch (error) {
    // The name is too long for the ending of a companion, so there is none.
    if (hasErrno(error, 'ENAMETOOLONG')) return undefined;
    throw error;
  }
}

/** Like {@link fileStat}, for a file whose path shows whether another computer sets its times. */
export function statAt(path: Buffer, stats: BigIntStats, askedAt: number): FileStat {
  const stat = fileStat(stats, askedAt);
  return { ...stat, fresh: isFreshAt(path, stat) };
}

/**
 * Describes, for display, why SQLite cannot open a database: something other than a file has the name of a companion.
 */
export function obstacleAt(absolute: Buffer): string | undefined {
  for (const companion of COMPANIONS) {
    try {
      const stats = lstatSync(companionPath(absolute, companion), { throwIfNoEntry: false });
      if (!stats || stats.isFile()) continue;
      const kind = stats.isDirectory() ? 'a directory' : stats.isSymbolicLink() ? 'a symbolic link' : 'a special file';
      return `its ${companion} is ${kind}, where SQLite keeps a file: rename it`;
    } catch {
      // A name that cannot be examined proves nothing.
    }
  }
  return undefined;
}

/**
 * Returns hex digits that change whenever the database does, including its log and journal. If they are equal, nothing
 * needs to be copied. {@link UNSETTLED} is the exception and proves nothing.
 */
export function stateOf(main: FileStat, absolute: Buffer): string {
  const files = [main, companionAt(absolute, '-wal'), companionAt(absolute, '-journal')];
  if (isFreshAt(absolute, main) || files.some((file) => file?.fresh)) return UNSETTLED;
  const text = files.map((file) => (file ? `${file.size} ${file.mtime} ${file.ctime} ${file.ino}` : '-')).join('\n');
  return hash('sha256', text, 'hex').slice(0, 32);
}

/**
 * Returns when the database was last written to. In WAL mode that is the log; the main file follows later. Nanoseconds
 * since 1970.
 */
export function lastWritten(main: Pick<FileStat, 'mtime'>, absolute: Buffer): bigint {
  const wal = companionAt(absolute, '-wal');
  return wal && wal.mtime > main.mtime ? wal.mtime : main.mtime;
}

/** Returns whether a log or journal is part of the database, in addition to the main file. */
export function isInParts(absolute: Buffer): boolean {
  return companionAt(absolute, '-wal') !== undefined || companionAt(absolute, '-journal') !== undefined;
}

/** The first bytes of a log, in either byte order: https://www.sqlite.org/fileformat2.html#walformat */
const WAL_MAGIC = [0x377f0682, 0x377f0683];
/** The first bytes of a journal: https://www.sqlite.org/fileformat2.html#the_rollback_journal */
export const JOURNAL_MAGIC = Buffer.from('d9d505f920a163d7', 'hex');
/**
 * Number of bytes that are zero in a journal that is not synced yet, or that its transaction left: the magic, and the
 * number of records.
 */
const JOURNAL_ZEROS = 12;
/** The index of a log grows by this many bytes: https://www.sqlite.org/walformat.html#the_wal_index_file_format */
const SHM_UNIT = 32_768;
/** The version in the first bytes of a log index, in the byte order of the machine. */
const SHM_VERSION = 3_007_000;
/** Size of one of the two copies of the header of a log index. It is zero until it is first filled. */
const SHM_HEADER = 48;

/** Returns whether a file with the name of a companion starts like one. Any other file may be user data. */
export function isCompanion(absolute: Buffer): boolean {
  const name = absolute.toString('latin1');
  let fd: number | undefined;
  try {
    fd = openSync(absolute, READ_FLAGS);
    const { size } = fstatSync(fd);
    if (size === 0) return true;
    const start = Buffer.alloc(SHM_HEADER);
    const read = start.subarray(0, readSync(fd, start, 0, start.length, 0));
    if (name.endsWith('-wal')) return WAL_MAGIC.includes(start.readUInt32BE());
    return name.endsWith('-shm') ? size % SHM_UNIT === 0 && isLogIndex(read) : isJournal(read);
  } catch {
    // The file has vanished or cannot be read, so the database was copied without it.
    return true;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function isLogIndex(start: Buffer): boolean {
  return [start.readUInt32BE(), start.readUInt32LE()].includes(SHM_VERSION) || isZero(start);
}

function isJournal(start: Buffer): boolean {
  if (start.length < JOURNAL_ZEROS) return false;
  return JOURNAL_MAGIC.equals(start.subarray(0, JOURNAL_MAGIC.length)) || isZero(start.subarray(0, JOURNAL_ZEROS));
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}
