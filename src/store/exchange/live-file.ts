import { createHash } from 'node:crypto';
import { closeSync, constants, fchmodSync, fchownSync, fstatSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { hasErrno } from '../../base/errors.ts';
import { readRangeOf } from '../../base/read-range.ts';
import { findData, outside, pairs, rangesText } from '../filesystem/data-ranges.ts';
import type { Directory } from '../filesystem/directory.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { NewName } from '../filesystem/write-file.ts';

/** Errors after which a file is fetched from the repository instead. */
const UNREADABLE = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EACCES', 'EPERM', 'EIO'];

/**
 * Returns whether a file has the size, time, owner, mode and content of an index entry. The content is read to its end
 * and hashed. `heard` is called as bytes are read.
 */
export async function isEqualFile(
  directory: Directory,
  name: string,
  entry: IndexEntry,
  heard: () => void,
): Promise<boolean> {
  return withLikely(directory, name, entry, async (fd) => {
    const { mode, uid, gid } = fstatSync(fd);
    if ((mode & 0o7777) !== entry.mode || uid !== entry.uid || gid !== entry.gid) return false;
    return hashIs(fd, entry, heard);
  });
}

interface CopyEqualFileOptions {
  from: Directory;
  name: string;
  to: NewName;
  entry: IndexEntry;
  heard: () => void;
}

/**
 * Copies a file if it still has the size, time and content of an index entry. File systems that can do so share the
 * blocks until either copy is written to. The hash is taken from the new file, which also gets the owner and mode, so
 * renames in the volume cannot interfere.
 *
 * @returns false if the file differs; nothing is left behind then
 */
export async function copyEqualFile({ from, name, to, entry, heard }: CopyEqualFileOptions): Promise<boolean> {
  // A copy would fill the holes.
  if (entry.sparse || entry.ranges) return false;
  return withLikely(from, name, entry, async (source) => {
    const copy = to.directory.createFile(to.name);
    let equal = false;
    try {
      await copyFile(`/proc/self/fd/${source}`, `/proc/self/fd/${copy}`, constants.COPYFILE_FICLONE);
      // The copy is verified, because an application may have written to the source since.
      equal = await hashIs(copy, entry, heard);
      if (equal) {
        fchownSync(copy, entry.uid, entry.gid);
        fchmodSync(copy, entry.mode);
      }
      return equal;
    } finally {
      closeSync(copy);
      if (!equal) to.directory.unlink(to.name);
    }
  });
}

/**
 * Runs `work` on a file that has the size and time of an entry. Returns false for any other file, and if it cannot be
 * read.
 */
async function withLikely(
  directory: Directory,
  name: string,
  entry: IndexEntry,
  work: (fd: number) => Promise<boolean>,
): Promise<boolean> {
  let fd: number;
  try {
    const found = directory.look(name);
    if (!found?.isFile() || found.size !== BigInt(entry.size ?? 0) || found.mtimeNs !== entry.mtime) return false;
    fd = directory.openFile(name);
  } catch (error) {
    if (hasErrno(error, ...UNREADABLE)) return false;
    throw error;
  }
  try {
    return fstatSync(fd).isFile() && (await work(fd));
  } finally {
    closeSync(fd);
  }
}

/** Returns whether an open file has the content of an index entry: its data ranges, and zeros elsewhere. */
export async function hashIs(fd: number, entry: IndexEntry, heard: () => void): Promise<boolean> {
  const { size = 0, ranges } = entry;
  if (ranges && !(await isEmptyOutside(fd, entry, heard))) return false;
  const hashing = createHash('sha256');
  for (const { offset, length } of pairs(ranges ?? [0, size])) {
    let left = length;
    for await (const chunk of readRangeOf(fd, offset, length)) {
      hashing.update(chunk);
      left -= chunk.length;
      heard();
    }
    if (left > 0) return false;
  }
  if (ranges) hashing.update(rangesText(ranges));
  return fstatSync(fd).size === size && hashing.digest('hex') === entry.sha256;
}

/** Returns whether everything between the ranges of an entry reads as zeros. Holes are not read. */
async function isEmptyOutside(fd: number, { size = 0, ranges = [] }: IndexEntry, heard: () => void): Promise<boolean> {
  const live = (await findData(fd, size)) ?? [0, size];
  for (const { offset, length } of outside(live, ranges)) {
    for await (const chunk of readRangeOf(fd, offset, length)) {
      if (chunk.some((byte) => byte !== 0)) return false;
      heard();
    }
  }
  return true;
}
