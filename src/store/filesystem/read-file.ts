import { hash } from 'node:crypto';
import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { hasErrno } from '../../base/errors.ts';
import { type FileStat, fileStat } from './file-stat.ts';

/**
 * Neither follows a symlink that took the file's place, nor waits for a writer should a FIFO have done so.
 */
export const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** How often a small file that changes while it is read is read before it is taken as it is. */
const SMALL_ATTEMPTS = 3;

/** What came of reading a whole file. */
export type SmallRead =
  | { outcome: 'read'; content: Uint8Array; sha256: string; crc32: number; stat: FileStat; changed: boolean }
  /** it is gone, or something else than a file now */
  | { outcome: 'vanished' }
  /** it grew beyond the limit */
  | { outcome: 'large' }
  | { outcome: 'unreadable'; error: Error };

/**
 * Reads and hashes a file of at most `limit` bytes, again when it changed meanwhile. Synchronous, for worker threads.
 *
 * @param allocate gives room for that many bytes
 */
export function readSmall(path: Buffer, limit: number, allocate: (size: number) => Uint8Array): SmallRead {
  let fd: number | undefined;
  try {
    fd = openSync(path, READ_FLAGS);
    for (let attempt = 1; ; attempt++) {
      const before = statOf(fd);
      if (before.type !== 'file' || !isAt(fd, path)) return { outcome: 'vanished' };
      if (before.size > limit) return { outcome: 'large' };
      const content = readFrom(fd, allocate(before.size));
      const after = statOf(fd);
      const changed = !sameVersion(before, after) || content.length !== after.size;
      if (changed && attempt < SMALL_ATTEMPTS) continue;
      const sha256 = hash('sha256', content, 'hex');
      return { outcome: 'read', content, sha256, crc32: crc32(content), stat: after, changed };
    }
  } catch (error) {
    return failedRead(error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

const DELETED = Buffer.from(' (deleted)');

/**
 * False when an open file is elsewhere than at `path`, a real path: a directory on the way was replaced by a symlink, which
 * `O_NOFOLLOW` only sees in the last part. Also when the file was moved or removed since. A mount of one file that was
 * replaced on the host is there still, although the kernel calls it deleted.
 */
export function isAt(fd: number, path: Buffer): boolean {
  const real = readlinkSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' });
  if (real.equals(path)) return true;
  if (!real.equals(Buffer.concat([path, DELETED]))) return false;
  const there = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  const open = fstatSync(fd, { bigint: true });
  return there !== undefined && there.dev === open.dev && there.ino === open.ino;
}

/** Sorts what went wrong while opening or reading a file into "not there any more" and "cannot be read". */
export function failedRead(error: unknown): { outcome: 'vanished' } | { outcome: 'unreadable'; error: Error } {
  // ELOOP: a symlink is there now. ENXIO: a socket.
  if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO')) return { outcome: 'vanished' };
  return { outcome: 'unreadable', error: error instanceof Error ? error : new Error(String(error)) };
}

/** True when nothing shows that the file was written between the two looks at it. */
export function sameVersion(a: FileStat, b: FileStat): boolean {
  return a.size === b.size && a.mtime === b.mtime && a.ctime === b.ctime && a.ino === b.ino;
}

function statOf(fd: number): FileStat {
  const askedAt = Date.now();
  return fileStat(fstatSync(fd, { bigint: true }), askedAt);
}

function readFrom(fd: number, room: Uint8Array): Uint8Array {
  let length = 0;
  while (length < room.length) {
    const read = readSync(fd, room, length, room.length - length, length);
    if (read === 0) break;
    length += read;
  }
  return room.subarray(0, length);
}
