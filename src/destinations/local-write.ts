import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, type FileHandle, link, lstat, mkdir, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { onAbort } from '../base/abort.ts';
import { hasErrno, isDiskError, LifeboatError } from '../base/errors.ts';
import { markUncertain, type Stored } from './destination.ts';
import { hashFile } from './hash-file.ts';
import { alreadyThere } from './keys.ts';

const WRITE_SIZE = 1024 * 1024;
/** The kernel accepts at most 1024 buffers in one call. */
const MAX_PIECES = 1000;

/** Returns true if something of that name exists. */
export async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}

/** Writes `body` to a new file and syncs it. Returns the size and hash of what was sent. */
export async function writeWhole(root: string, file: string, body: Readable, signal?: AbortSignal): Promise<Stored> {
  const handle = await createFile(root, file);
  const hash = createHash('sha256');
  let size = 0;
  // Gathers small pieces: a zip of small files arrives in pieces of a few bytes.
  let gathered: Buffer[] = [];
  let waiting = 0;
  const flush = async () => {
    const pieces = gathered;
    const length = waiting;
    gathered = [];
    waiting = 0;
    for (const piece of pieces) hash.update(piece);
    await writeAll(handle, pieces, length);
  };
  // Fires at once if the signal aborted while the file was created.
  const forget = onAbort(signal, () =>
    body.destroy(signal?.reason instanceof Error ? signal.reason : new Error('aborted')),
  );
  try {
    for await (const chunk of body) {
      const data: Buffer = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk);
      gathered.push(data);
      waiting += data.length;
      size += data.length;
      if (waiting >= WRITE_SIZE || gathered.length >= MAX_PIECES) await flush();
    }
    signal?.throwIfAborted();
    await flush();
    await handle.chmod(0o600);
    await handle.sync();
  } finally {
    forget();
    await handle.close();
  }
  return { size, sha256: hash.digest('hex') };
}

async function writeAll(handle: FileHandle, pieces: Buffer[], length: number): Promise<void> {
  const { bytesWritten } = length > 0 ? await handle.writev(pieces) : { bytesWritten: 0 };
  if (bytesWritten === length) return;
  // After a short write, as on a nearly full disk, writing the rest separately brings up the actual error.
  const rest = Buffer.concat(pieces).subarray(bytesWritten);
  for (let done = 0; done < rest.length; ) done += (await handle.write(rest, done)).bytesWritten;
}

/** Creates a file and its directories. If a concurrent delete removes a directory, creates it again. */
async function createFile(root: string, file: string): Promise<FileHandle> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  for (let attempt = 1; ; attempt++) {
    await makeDirectories(root, dirname(file));
    try {
      return await open(file, flags, 0o600);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT') || attempt === 5) throw error;
    }
  }
}

async function makeDirectories(root: string, directory: string, attempt = 1): Promise<void> {
  if (directory === root || directory.length <= root.length) return;
  try {
    await mkdir(directory, { mode: 0o700 });
    await chmod(directory, 0o700);
    await syncDirectory(dirname(directory));
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return;
    // Never creates the root itself: a missing root means that it is not mounted.
    if (!hasErrno(error, 'ENOENT') || dirname(directory) === root) throw error;
    // A parent that is a broken link exists already, so creating it cannot help.
    if (attempt === 5) throw error;
    await makeDirectories(root, dirname(directory));
    await makeDirectories(root, directory, attempt + 1);
  }
}

/** Reads back a file. @throws DEST_DAMAGED */
export async function readBack(file: string, alive?: () => void): Promise<Stored> {
  try {
    return await hashFile(file, alive);
  } catch (cause) {
    if (!isDiskError(cause)) throw cause;
    throw new LifeboatError('DEST_DAMAGED', 'the stored object cannot be read back', { cause });
  }
}

/**
 * Renames a finished file without ever replacing another one, and makes the new name durable. A failure after the
 * rename is marked, see {@link markUncertain}.
 */
export async function giveName(temporary: string, file: string, key: string): Promise<void> {
  let named = false;
  try {
    await link(temporary, file);
    named = true;
    await unlink(temporary);
  } catch (error) {
    if (named) throw markUncertain(error);
    if (hasErrno(error, 'EEXIST')) throw alreadyThere(key);
    if (!hasErrno(error, 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK', 'ENOSYS')) throw error;
    // The file system has no hard links, so check and rename. The lease keeps other writers away meanwhile.
    if (await exists(file)) throw alreadyThere(key);
    await rename(temporary, file);
  }
  await syncDirectory(dirname(file)).catch((error: unknown) => {
    throw markUncertain(error);
  });
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } catch (error) {
    // Some network file systems cannot sync a directory.
    if (!hasErrno(error, 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP')) throw error;
  } finally {
    await handle.close();
  }
}
