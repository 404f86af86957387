import { hash } from 'node:crypto';
import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { hasErrno } from '../../base/errors.ts';
import { type FileStat, fileStat } from './file-stat.ts';

/** Does not follow a symlink that replaced the file, and does not wait for a writer if a FIFO did. */
export const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Number of times that a small file is read if it changes meanwhile. The last result is used. */
const SMALL_ATTEMPTS = 3;

/** The result of reading a whole file. */
export type SmallRead =
  | { outcome: 'read'; content: Uint8Array; sha256: string; crc32: number; stat: FileStat; changed: boolean }
  /** the file is gone, or something else has its name */
  | { outcome: 'vanished' }
  /** the file grew beyond the limit */
  | { outcome: 'large' }
  | { outcome: 'unreadable'; error: Error };

/**
 * Reads and hashes a file of at most `limit` bytes, and starts over if it changes meanwhile. Synchronous, for worker
 * threads.
 *
 * @param allocate returns a buffer of the given size
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
 * Returns whether an open file is still at `path`, a real path. It is not if a directory on the way was replaced by a
 * symlink, which `O_NOFOLLOW` detects only in the last part, or if the file has been moved or removed. A mount of a
 * single file that was replaced on the host is still there, although the kernel calls it deleted.
 */
export function isAt(fd: number, path: Buffer): boolean {
  const real = readlinkSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' });
  if (real.equals(path)) return true;
  if (!real.equals(Buffer.concat([path, DELETED]))) return false;
  const there = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  const open = fstatSync(fd, { bigint: true });
  return there !== undefined && there.dev === open.dev && there.ino === open.ino;
}

/** Classifies an error of opening or reading a file: the file has vanished, or it cannot be read. */
export function failedRead(error: unknown): { outcome: 'vanished' } | { outcome: 'unreadable'; error: Error } {
  // ELOOP: the file is a symlink now. ENXIO: a socket.
  if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO')) return { outcome: 'vanished' };
  return { outcome: 'unreadable', error: error instanceof Error ? error : new Error(String(error)) };
}

/** Returns whether nothing indicates a write to the file between the two stat calls. */
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
