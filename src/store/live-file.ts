import { createHash } from 'node:crypto';
import { type BigIntStats, constants, fchmodSync, fchownSync, lstatSync } from 'node:fs';
import { copyFile, type FileHandle, open, unlink } from 'node:fs/promises';
import { hasErrno } from '../errors.ts';
import type { IndexEntry } from './index-file.ts';
import { isAt, READ_FLAGS } from './read-file.ts';

const CHUNK = 1024 * 1024;
/** What is not there, or cannot be read, is fetched instead. */
const UNREADABLE = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EACCES', 'EPERM', 'EIO'];

/**
 * True when the file at `path` has the size, time, owner, mode and, read to its end, the content of an index entry.
 * `heard` is called as bytes are read.
 */
export async function isEqualFile(path: Buffer, entry: IndexEntry, heard: () => void): Promise<boolean> {
  const stat = fileAt(path);
  if (!stat || stat.size !== BigInt(entry.size ?? 0) || stat.mtimeNs !== entry.mtime) return false;
  const { mode, uid, gid } = stat;
  if (Number(mode & 0o7777n) !== entry.mode || Number(uid) !== entry.uid || Number(gid) !== entry.gid) return false;
  return (await withFile(path, (file) => hashIs(file, entry, heard))) ?? false;
}

/**
 * Copies a file that still has the size, the time and the content of an index entry; where the file system can, its blocks
 * are shared until one of both is written to. Resolves to false, having left nothing, for any other.
 */
export async function copyEqualFile(from: Buffer, to: Buffer, entry: IndexEntry, heard: () => void): Promise<boolean> {
  // A copy would fill the holes.
  if (entry.sparse) return false;
  const stat = fileAt(from);
  if (!stat || stat.size !== BigInt(entry.size ?? 0) || stat.mtimeNs !== entry.mtime) return false;
  const copied = await withFile(from, async (file) => {
    await copyFile(`/proc/self/fd/${file.fd}`, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    return true;
  });
  if (!copied) return false;
  // The copy is what counts: the file may have been written to since.
  const equal = await withFile(to, async (file) => {
    if (!(await hashIs(file, entry, heard))) return false;
    fchownSync(file.fd, entry.uid, entry.gid);
    fchmodSync(file.fd, entry.mode);
    return true;
  });
  if (!equal) await unlink(to);
  return equal ?? false;
}

function fileAt(path: Buffer): BigIntStats | undefined {
  try {
    const stat = lstatSync(path, { bigint: true });
    return stat.isFile() ? stat : undefined;
  } catch (error) {
    if (hasErrno(error, ...UNREADABLE)) return undefined;
    throw error;
  }
}

/** Undefined when there is no file of that name that can be read, or a symlink on the way to it. */
async function withFile<T>(path: Buffer, work: (file: FileHandle) => Promise<T>): Promise<T | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, READ_FLAGS);
  } catch (error) {
    if (hasErrno(error, ...UNREADABLE)) return undefined;
    throw error;
  }
  try {
    if (!isAt(file.fd, path) || !(await file.stat()).isFile()) return undefined;
    return await work(file);
  } finally {
    await file.close();
  }
}

async function hashIs(file: FileHandle, entry: IndexEntry, heard: () => void): Promise<boolean> {
  const hashing = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK, Math.max(1, entry.size ?? 0)));
  let size = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, size);
    if (bytesRead === 0) break;
    hashing.update(buffer.subarray(0, bytesRead));
    size += bytesRead;
    heard();
  }
  return size === entry.size && hashing.digest('hex') === entry.sha256;
}
