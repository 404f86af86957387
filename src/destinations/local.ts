import { createHash, randomBytes } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { chmod, type FileHandle, link, lstat, mkdir, open, readdir, rename, rmdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { hasErrno, LifeboatError } from '../errors.ts';
import type { ByteRange, Destination, ObjectInfo, Stored } from './destination.ts';
import { hashFile } from './hash-file.ts';
import { checkKey, checkPrefix, compareKeys } from './keys.ts';

/** A destination that is a directory, with the care for leftovers that only a file system needs. */
export interface LocalDestination extends Destination {
  /**
   * Removes what runs that died left unfinished: temporary files below `prefix` (default everywhere) whose last write is at
   * least that long ago (milliseconds, default a day), and directories that are empty after that. Returns how many files.
   */
  sweepTemporary(options?: { prefix?: string; olderThanMs?: number }): Promise<number>;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const WRITE_SIZE = 1024 * 1024;
/** The kernel takes at most 1024 in one call. */
const MAX_PIECES = 1000;
const TEMPORARY = /^\..*\.tmp$/s;

/**
 * Keeps objects as files under `root`, which must exist. An object is written beside its final name, synced, read back
 * and compared, and only then renamed. Files have mode 600 and directories 700, whatever the umask.
 */
export function createLocalDestination(options: { root: string }): LocalDestination {
  const root = options.root;
  const fileOf = (key: string) => join(root, checkKey(key));
  return {
    name: root,

    async put(key, body, { signal } = {}) {
      const file = fileOf(key);
      const temporary = join(dirname(file), `.${randomBytes(8).toString('hex')}.tmp`);
      let bodyError: unknown;
      body.once('error', (error) => {
        bodyError = error;
      });
      try {
        signal?.throwIfAborted();
        if (await exists(file)) throw alreadyThere(key);
        const sent = await writeWhole(root, temporary, body, signal);
        const back = await readBack(temporary, sent.size);
        signal?.throwIfAborted();
        if (back.size !== sent.size || back.sha256 !== sent.sha256) {
          throw new LifeboatError('DEST_DAMAGED', `${key} reads back as something else than was written`, {
            hint: 'Check the disk of the destination, and the memory of the machine.',
          });
        }
        await giveName(temporary, file, key);
        return sent;
      } catch (error) {
        body.destroy();
        await unlink(temporary).catch(() => {});
        throw error === bodyError ? error : explain(error, root);
      }
    },

    async get(key, { range, signal } = {}) {
      const handle = await openObject(fileOf(key), key);
      return readRange(handle, range, signal);
    },

    list: (prefix) => listFiles(root, checkPrefix(prefix)),

    async delete(key) {
      const file = fileOf(key);
      try {
        await unlink(file);
      } catch (error) {
        if (!hasErrno(error, 'ENOENT', 'ENOTDIR')) throw explain(error, root);
      }
      await removeEmptyParents(root, dirname(key));
    },

    sweepTemporary: ({ prefix = '', olderThanMs = DAY_MS } = {}) =>
      sweep(join(root, checkPrefix(prefix)), Date.now() - olderThanMs),
  };
}

function alreadyThere(key: string): LifeboatError {
  return new LifeboatError('DEST_EXISTS', `${key} is stored already`);
}

async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}

/** Writes `body` to a new file and syncs it. Returns the size and hash of what was sent. */
async function writeWhole(root: string, file: string, body: Readable, signal?: AbortSignal): Promise<Stored> {
  const handle = await createFile(root, file);
  const hash = createHash('sha256');
  let size = 0;
  // Small pieces are gathered: a zip of small files comes in pieces of a few bytes.
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
  const onAbort = () => body.destroy(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
  signal?.addEventListener('abort', onAbort, { once: true });
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
    signal?.removeEventListener('abort', onAbort);
    await handle.close();
  }
  return { size, sha256: hash.digest('hex') };
}

async function writeAll(handle: FileHandle, pieces: Buffer[], length: number): Promise<void> {
  const { bytesWritten } = length > 0 ? await handle.writev(pieces) : { bytesWritten: 0 };
  if (bytesWritten === length) return;
  // A short write, as on a nearly full disk: the rest goes by itself, and meets the reason.
  const rest = Buffer.concat(pieces).subarray(bytesWritten);
  for (let done = 0; done < rest.length; ) done += (await handle.write(rest, done)).bytesWritten;
}

/** Opens a new file, making its directories. One that is removed meanwhile, by a delete, is made again. */
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

async function makeDirectories(root: string, directory: string): Promise<void> {
  if (directory === root || directory.length <= root.length) return;
  try {
    await mkdir(directory, { mode: 0o700 });
    await chmod(directory, 0o700);
    await syncDirectory(dirname(directory));
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return;
    // The root itself is never made: a missing one is a mount that is not there.
    if (!hasErrno(error, 'ENOENT') || dirname(directory) === root) throw error;
    await makeDirectories(root, dirname(directory));
    await makeDirectories(root, directory);
  }
}

async function readBack(file: string, size: number): Promise<Stored> {
  try {
    return await hashFile(file, size);
  } catch (cause) {
    if (!hasErrno(cause, 'EIO')) throw cause;
    throw new LifeboatError('DEST_DAMAGED', 'what was stored cannot be read back', { cause });
  }
}

/** Gives a finished file its name without ever replacing one, and makes the name durable. */
async function giveName(temporary: string, file: string, key: string): Promise<void> {
  try {
    await link(temporary, file);
    await unlink(temporary);
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) throw alreadyThere(key);
    if (!hasErrno(error, 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK', 'ENOSYS')) throw error;
    // A file system without hard links: a look and a rename. The lease keeps other writers away meanwhile.
    if (await exists(file)) throw alreadyThere(key);
    await rename(temporary, file);
  }
  await syncDirectory(dirname(file));
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

async function openObject(file: string, key: string): Promise<FileHandle> {
  const missing = (cause?: unknown) =>
    new LifeboatError('OBJECT_MISSING', `${key} is not in the repository`, { cause });
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP') ? missing(error) : unreadable(key, error);
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw missing();
}

function unreadable(key: string, cause: unknown): LifeboatError {
  return new LifeboatError('OBJECT_DAMAGED', `${key} cannot be read`, { cause });
}

async function readRange(handle: FileHandle, range?: ByteRange, signal?: AbortSignal): Promise<Readable> {
  if (range && range.end <= range.start) {
    await handle.close();
    return Readable.from([]);
  }
  return createReadStream('', {
    fd: handle,
    highWaterMark: 256 * 1024,
    ...(range ? { start: range.start, end: range.end - 1 } : {}),
    ...(signal ? { signal } : {}),
  });
}

/** Depth first, in the order of whole keys: a directory sorts as its name with the slash. */
async function* listFiles(root: string, prefix: string): AsyncGenerator<ObjectInfo> {
  let entries: { key: string; directory: boolean }[];
  try {
    entries = (await readdir(join(root, prefix), { withFileTypes: true }))
      .filter((entry) => !entry.name.startsWith('.') && (entry.isDirectory() || entry.isFile()))
      // The root of an ext file system has this, for root's eyes only.
      .filter((entry) => prefix !== '' || entry.name !== 'lost+found')
      .map((entry) => ({
        key: prefix + entry.name + (entry.isDirectory() ? '/' : ''),
        directory: entry.isDirectory(),
      }));
  } catch (error) {
    // Below the root a directory may vanish at any time, by a delete.
    if (hasErrno(error, 'ENOENT', 'ENOTDIR') && prefix !== '') return;
    throw explain(error, root);
  }
  entries.sort((a, b) => compareKeys(a.key, b.key));
  for (const { key, directory } of entries) {
    if (directory) {
      yield* listFiles(root, key);
      continue;
    }
    const stat = await lstat(join(root, key)).catch((error) => {
      if (hasErrno(error, 'ENOENT')) return undefined;
      throw error;
    });
    if (stat) yield { key, size: stat.size };
  }
}

async function removeEmptyParents(root: string, directory: string): Promise<void> {
  for (let at = directory; at !== '.' && at !== ''; at = dirname(at)) {
    try {
      await rmdir(join(root, at));
    } catch {
      // Not empty, in use again, or gone already: all fine.
      return;
    }
  }
}

async function sweep(directory: string, before: number): Promise<number> {
  let removed = 0;
  const entries = await readdir(directory, { withFileTypes: true }).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  });
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) {
      removed += await sweep(path, before).catch(() => 0);
      // One that holds something stays.
      await rmdir(path).catch(() => undefined);
    } else if (entry.isFile() && TEMPORARY.test(entry.name) && (await lstat(path)).mtimeMs <= before) {
      await unlink(path);
      removed++;
    }
  }
  return removed;
}

/** Gives a system error the code and hint that people need. Everything else passes as it is. */
function explain(error: unknown, root: string): unknown {
  if (hasErrno(error, 'ENOSPC', 'EDQUOT')) {
    return new LifeboatError('DEST_FULL', `${root} has no space left`, {
      cause: error,
      hint: 'Free space there, or keep fewer snapshots; nothing unfinished was left behind.',
    });
  }
  if (hasErrno(error, 'EROFS', 'EACCES', 'EPERM', 'ENOENT', 'ENOTDIR', 'EIO', 'ENODEV', 'ESTALE')) {
    return new LifeboatError('DEST_UNWRITABLE', `${root} cannot be written`, {
      cause: error,
      hint: 'Check that the directory is mounted, not read-only, and that the agent may write to it.',
    });
  }
  return error;
}
