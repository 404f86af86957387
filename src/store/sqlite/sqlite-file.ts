import { hash } from 'node:crypto';
import { closeSync, fstatSync, lstatSync, openSync, readSync } from 'node:fs';
import { hasErrno } from '../../base/errors.ts';
import { type FileStat, fileStat } from '../filesystem/file-stat.ts';
import { isMountPoint } from '../filesystem/mount-point.ts';
import type { TreePath } from '../filesystem/path.ts';
import { READ_FLAGS } from '../filesystem/read-file.ts';

/** https://www.sqlite.org/fileformat2.html#the_database_header */
const MAGIC = Buffer.from('SQLite format 3\0', 'latin1');
/** The smallest page, hence the smallest database. Every database is a whole number of these. */
export const SQLITE_PAGE = 512;
/** As many bytes as {@link isSqlite} needs. */
export const SQLITE_HEADER = 100;

/** What SQLite keeps next to a database: https://www.sqlite.org/tempfiles.html */
const COMPANIONS = ['-wal', '-shm', '-journal'] as const;
type Companion = (typeof COMPANIONS)[number];

/** The state of a database that is to be read again: a file of it changed a moment ago, or it could not be stored as it should. */
export const UNSETTLED = 'unsettled';

/** True when a file that begins with these bytes is an SQLite database, whatever its name says. */
export function isSqlite(start: Uint8Array): boolean {
  return MAGIC.equals(start.subarray(0, MAGIC.length));
}

/** True for a file that begins like a database; false where there is none, or it cannot be read. */
export function isSqliteAt(path: Buffer): boolean {
  return withHeaderAt(path, () => true) ?? false;
}

/** Does what {@link isWithoutItsLog} does, for a file that is not open and may be no database. */
export function isWithoutItsLogAt(path: Buffer): boolean {
  return withHeaderAt(path, (fd, header) => isWithoutItsLog(fd, header, path)) ?? false;
}

/** Undefined for what is no database, and for what cannot be read. */
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
 * Returns whether the log of a database is out of reach: the database uses one, is mounted as a single file, and has no log next
 * to it here. The application's SQLite then keeps the log in the file system of the application's container.
 *
 * @param fd the open database
 */
export function isWithoutItsLog(fd: number, header: Uint8Array, absolute: Buffer): boolean {
  return usesWal(header) && companionAt(absolute, '-wal') === undefined && isMountPoint(fd, absolute);
}

/** True when the header says that changes go through a write-ahead log. */
export function usesWal(header: Uint8Array): boolean {
  return header[18] === 2 && header[19] === 2;
}

/** The paths of a database's companions in a tree. */
export function companionsOf(path: TreePath): TreePath[] {
  return COMPANIONS.map((companion) => path + companion);
}

export function companionPath(absolute: Buffer, companion: Companion): Buffer {
  return Buffer.concat([absolute, Buffer.from(companion)]);
}

/** A companion that is a file and not empty; SQLite follows no symlinks there, and neither does this. */
export function companionAt(absolute: Buffer, companion: Companion): FileStat | undefined {
  const askedAt = Date.now();
  try {
    const stats = lstatSync(companionPath(absolute, companion), { bigint: true, throwIfNoEntry: false });
    return stats?.isFile() && stats.size > 0n ? fileStat(stats, askedAt) : undefined;
  } catch (error) {
    // A name with no room for the companion's ending has none.
    if (hasErrno(error, 'ENAMETOOLONG')) return undefined;
    throw error;
  }
}

/** What keeps SQLite from opening a database: a directory, link or the like under the name of a companion. For people. */
export function obstacleAt(absolute: Buffer): string | undefined {
  for (const companion of COMPANIONS) {
    try {
      const stats = lstatSync(companionPath(absolute, companion), { throwIfNoEntry: false });
      if (!stats || stats.isFile()) continue;
      const kind = stats.isDirectory() ? 'a directory' : stats.isSymbolicLink() ? 'a symbolic link' : 'a special file';
      return `its ${companion} is ${kind}, where SQLite keeps a file: rename it`;
    } catch {
      // What cannot be looked at is no proof.
    }
  }
  return undefined;
}

/**
 * A few hex digits that change whenever the database does, its log and journal included. Two equal ones mean that nothing
 * has to be copied, but for {@link UNSETTLED}, which proves nothing.
 */
export function stateOf(main: FileStat, absolute: Buffer): string {
  const files = [main, companionAt(absolute, '-wal'), companionAt(absolute, '-journal')];
  if (files.some((file) => file?.fresh)) return UNSETTLED;
  const text = files.map((file) => (file ? `${file.size} ${file.mtime} ${file.ctime} ${file.ino}` : '-')).join('\n');
  return hash('sha256', text, 'hex').slice(0, 32);
}

/** When the database was written to last: in WAL mode the log is, and the main file only later. Nanoseconds since 1970. */
export function lastWritten(main: Pick<FileStat, 'mtime'>, absolute: Buffer): bigint {
  const wal = companionAt(absolute, '-wal');
  return wal && wal.mtime > main.mtime ? wal.mtime : main.mtime;
}

/** True when the main file alone is not the database: a log or a journal is part of it. */
export function isInParts(absolute: Buffer): boolean {
  return companionAt(absolute, '-wal') !== undefined || companionAt(absolute, '-journal') !== undefined;
}

/** The first bytes of a log, of either byte order: https://www.sqlite.org/fileformat2.html#walformat */
const WAL_MAGIC = [0x377f0682, 0x377f0683];
/** The first bytes of a journal: https://www.sqlite.org/fileformat2.html#the_rollback_journal */
export const JOURNAL_MAGIC = Buffer.from('d9d505f920a163d7', 'hex');
/** Zero in a journal that is not synced yet, or that its transaction left behind: the magic, and the number of records. */
const JOURNAL_ZEROS = 12;
/** The index of a log grows by so many bytes: https://www.sqlite.org/walformat.html#the_wal_index_file_format */
const SHM_UNIT = 32_768;
/** The version in the first bytes of the index of a log, in the byte order of the machine. */
const SHM_VERSION = 3_007_000;
/** One of the two copies of the header of an index; zero as long as nobody has filled it. */
const SHM_HEADER = 48;

/** True for a file that is what SQLite keeps under such a name, by its first bytes: anything else may be somebody's data. */
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
    // Gone, or not readable: the database was copied without it.
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
