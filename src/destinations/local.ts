import { randomBytes } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { type FileHandle, lstat, open, rmdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { hasErrno, isDiskError, isSystemError, LifeboatError } from '../base/errors.ts';
import type { ByteRange, Destination, ObjectInfo, SweepingDestination } from './destination.ts';
import { openPastCache, streamPastCache } from './direct-read.ts';
import { hashFile } from './hash-file.ts';
import { alreadyThere, checkKey, checkPrefix, compareKeys, isAfter } from './keys.ts';
import { findBrokenParent, identify, readEntries, wayTo } from './local-links.ts';
import { beginFile, sweepFiles } from './local-sweep.ts';
import { versionOf } from './local-version.ts';
import { exists, giveName, readBack, writeWhole } from './local-write.ts';

/**
 * Stores objects as files under `root`, which must exist. Writes each object to a temporary file in the same directory,
 * syncs it, reads it back, compares it, and only then gives it its name. Sweeping removes temporary files that were
 * last written at least `olderThanMs` ago (default: a day), and directories that are empty afterwards. Files have mode
 * 600 and directories 700, whatever the umask.
 */
export function createLocalDestination(options: { root: string }): SweepingDestination {
  const root = options.root;
  const fileOf = (key: string) => join(root, checkKey(key));
  return {
    name: root,

    async put(key, body, { signal, alive } = {}) {
      const file = fileOf(key);
      const temporary = join(dirname(file), `.${randomBytes(8).toString('hex')}.tmp`);
      let bodyError: unknown;
      body.once('error', (error) => {
        bodyError = error;
      });
      const done = beginFile(temporary);
      try {
        signal?.throwIfAborted();
        if (await exists(file)) throw alreadyThere(key);
        const sent = await writeWhole(root, temporary, body, signal);
        const back = await readBack(temporary, alive);
        signal?.throwIfAborted();
        if (back.size !== sent.size || back.sha256 !== sent.sha256) {
          throw new LifeboatError('DEST_DAMAGED', `${key} reads back different from what was written`, {
            hint: 'Check the disk of the destination, and the memory of the machine.',
          });
        }
        await giveName(temporary, file, key);
        return sent;
      } catch (error) {
        body.destroy();
        await unlink(temporary).catch(() => {});
        throw error === bodyError ? error : await explainPut(error, root, key);
      } finally {
        done();
      }
    },

    get: (key, options) => getObject(root, key, options),

    async *list(prefix, { signal, after } = {}) {
      for await (const object of listFiles(root, checkPrefix(prefix), await wayTo(root, prefix))) {
        signal?.throwIfAborted();
        if (isAfter(object.key, after)) yield object;
      }
    },

    async delete(key) {
      const file = fileOf(key);
      try {
        await unlink(file);
      } catch (error) {
        if (!hasErrno(error, 'ENOENT', 'ENOTDIR')) throw explain(error, root);
      }
      await removeEmptyParents(root, dirname(key));
    },

    sweepTemporary: (options) => sweepFiles(root, options),
  };
}

/**
 * Returns whether a directory with a repository can be read past the page cache; undefined if that is unknown. Without
 * that, the read-back of an object shows what the system remembers, and not what the disk stored.
 */
export async function isReadPastCache(root: string): Promise<boolean | undefined> {
  return hashFile(join(root, 'lifeboat.json')).then(
    ({ direct }) => direct,
    () => undefined,
  );
}

async function getObject(
  root: string,
  key: string,
  { range, signal, fromDisk }: Parameters<Destination['get']>[1] = {},
): Promise<Readable> {
  if (!fromDisk || range) return readRange(await openObject(root, key), key, range, signal);
  return explained(streamPastCache(await openObject(root, key, openPastCache), signal), key);
}

async function openObject(
  root: string,
  key: string,
  openFile: (...file: [string, number]) => Promise<FileHandle> = open,
) {
  const file = join(root, checkKey(key));
  const missing = (cause?: unknown) =>
    new LifeboatError('OBJECT_MISSING', `${key} is not in the repository`, { cause });
  let handle: FileHandle;
  try {
    handle = await openFile(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw unreadable(key, error);
    throw (await findBrokenParent(root, key, { onlyLinks: true })) ?? missing(error);
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw missing();
}

/**
 * Returns the error for an object that cannot be read. Only a disk error means damage. A stale mount or missing
 * permissions say nothing about the content.
 */
function unreadable(key: string, cause: unknown): LifeboatError {
  if (isDiskError(cause)) return new LifeboatError('OBJECT_DAMAGED', `${key} cannot be read`, { cause });
  return notReadable(key, cause);
}

/** Returns the error for an object whose content may be intact. */
function notReadable(key: string, cause: unknown): LifeboatError {
  const hint = hasErrno(cause, 'EACCES', 'EPERM')
    ? 'Check who owns it, and that Lifeboat may read it.'
    : 'Check that the file system of the destination is mounted and answers.';
  return new LifeboatError('DEST_UNREACHABLE', `${key} cannot be read`, { cause, hint });
}

async function readRange(
  handle: FileHandle,
  key: string,
  range: ByteRange | undefined,
  signal: AbortSignal | undefined,
): Promise<Readable> {
  if (range && range.end <= range.start) {
    await handle.close();
    return Readable.from([]);
  }
  const file = createReadStream('', {
    fd: handle,
    highWaterMark: 256 * 1024,
    ...(range ? { start: range.start, end: range.end - 1 } : {}),
    ...(signal ? { signal } : {}),
  });
  return explained(file, key);
}

/** Makes the stream fail with LifeboatErrors instead of system errors. */
function explained(file: Readable, key: string): Readable {
  const destroy = file.destroy.bind(file);
  file.destroy = (error) => destroy(isSystemError(error) ? unreadable(key, error) : error);
  return file;
}

/**
 * Lists files depth first, in the byte order of whole keys: a directory sorts by its name with the slash. Follows links
 * to directories, as get and put do.
 *
 * @param way the parent directories, so that a link back to one of them is not followed
 */
async function* listFiles(root: string, prefix: string, way: readonly string[] = []): AsyncGenerator<ObjectInfo> {
  let entries: { key: string; directory: boolean }[];
  let here: string;
  try {
    here = await identify(join(root, prefix));
    if (way.includes(here)) return;
    entries = (await readEntries(root, prefix))
      .filter((entry) => !entry.name.startsWith('.') && (entry.isDirectory() || entry.isFile()))
      // Only root can read this directory, which the root of an ext file system has.
      .filter((entry) => prefix !== '' || entry.name !== 'lost+found')
      .map((entry) => ({
        key: prefix + entry.name + (entry.isDirectory() ? '/' : ''),
        directory: entry.isDirectory(),
      }));
  } catch (error) {
    const broken = hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP') && (await findBrokenParent(root, prefix));
    if (broken) throw broken;
    // A concurrent delete may remove a directory below the root at any time.
    if (hasErrno(error, 'ENOENT', 'ENOTDIR') && prefix !== '') return;
    throw isSystemError(error) && prefix !== '' ? notReadable(join(root, prefix), error) : explain(error, root);
  }
  entries.sort((a, b) => compareKeys(a.key, b.key));
  for (const { key, directory } of entries) {
    if (directory) {
      yield* listFiles(root, key, [...way, here]);
      continue;
    }
    // Callers need to know that the name exists. One unreadable file does not stop the listing.
    const found = await lstat(join(root, key)).catch((error) => ({ size: undefined, error }));
    if (found.size !== undefined) yield { key, size: found.size, ...versionOf(found) };
    else if (!hasErrno(found.error, 'ENOENT', 'ENOTDIR'))
      yield { key, size: undefined, unread: notReadable(key, found.error) };
  }
}

async function removeEmptyParents(root: string, directory: string): Promise<void> {
  for (let at = directory; at !== '.' && at !== ''; at = dirname(at)) {
    try {
      await rmdir(join(root, at));
    } catch {
      // It is not empty, in use again, or removed already.
      return;
    }
  }
}

async function explainPut(error: unknown, root: string, key: string): Promise<unknown> {
  const isPath = hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EEXIST');
  return (isPath && (await findBrokenParent(root, key))) || explain(error, root);
}

/** Translates a system error to a code and a hint for the user. Returns any other error unchanged. */
function explain(error: unknown, root: string): unknown {
  if (hasErrno(error, 'ENOSPC', 'EDQUOT')) {
    return new LifeboatError('DEST_FULL', `${root} has no space left`, {
      cause: error,
      hint: 'Free space there, or keep fewer snapshots; nothing unfinished was left behind.',
    });
  }
  if (isDiskError(error) || hasErrno(error, 'EROFS', 'EACCES', 'EPERM', 'ENOENT', 'ENOTDIR', 'ENODEV', 'ESTALE')) {
    return new LifeboatError('DEST_UNWRITABLE', `${root} cannot be written`, {
      cause: error,
      hint: 'Check that the directory is mounted, not read-only, and that Lifeboat may write to it.',
    });
  }
  return error;
}
