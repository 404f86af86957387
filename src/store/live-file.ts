import { createHash } from 'node:crypto';
import { closeSync, constants, fchmodSync, fchownSync, fstatSync, read } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { hasErrno } from '../errors.ts';
import type { Directory } from './directory.ts';
import type { IndexEntry } from './index-file.ts';
import type { NewName } from './write-file.ts';

const readAsync = promisify(read);

const CHUNK = 1024 * 1024;
/** What is not there, or cannot be read, is fetched instead. */
const UNREADABLE = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EACCES', 'EPERM', 'EIO'];

/**
 * True when the file of that name has the size, time, owner, mode and, read to its end, the content of an index entry.
 * `heard` is called as bytes are read.
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

/**
 * Copies a file that still has the size, the time and the content of an index entry; where the file system can, its blocks
 * are shared until one of both is written to. Resolves to false, having left nothing, for any other. What is compared, and
 * gets owner and mode, is the new file itself, whoever renames what meanwhile.
 */
export async function copyEqualFile(
  from: Directory,
  name: string,
  to: NewName,
  entry: IndexEntry,
  heard: () => void,
): Promise<boolean> {
  // A copy would fill the holes.
  if (entry.sparse) return false;
  return withLikely(from, name, entry, async (source) => {
    const copy = to.directory.createFile(to.name);
    let equal = false;
    try {
      await copyFile(`/proc/self/fd/${source}`, `/proc/self/fd/${copy}`, constants.COPYFILE_FICLONE);
      // The copy is what counts: the file may have been written to since.
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

/** Works with a file that has the size and the time of an entry; false for any other, and for what cannot be read. */
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

async function hashIs(fd: number, entry: IndexEntry, heard: () => void): Promise<boolean> {
  const hashing = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK, Math.max(1, entry.size ?? 0)));
  let size = 0;
  for (;;) {
    const { bytesRead } = await readAsync(fd, buffer, 0, buffer.length, size);
    if (bytesRead === 0) break;
    hashing.update(buffer.subarray(0, bytesRead));
    size += bytesRead;
    heard();
  }
  return size === entry.size && hashing.digest('hex') === entry.sha256;
}
