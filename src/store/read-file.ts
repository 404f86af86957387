import { close, constants, fstat, open, read } from 'node:fs';
import { promisify } from 'node:util';
import { hasErrno } from '../errors.ts';
import { type FileStat, fileStat } from './walk.ts';

const openAsync = promisify(open);
const fstatAsync = promisify(fstat);
const closeAsync = promisify(close);
const readAsync = promisify(read);

/**
 * Neither follows a symlink that took the file's place, nor waits for a writer should a FIFO have done so.
 */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** How often a small file that changes while it is read is read before it is taken as it is. */
const SMALL_ATTEMPTS = 3;

/** What came of reading a whole file. */
export type SmallRead =
  | { outcome: 'read'; content: Buffer; stat: FileStat; changed: boolean }
  /** it is gone, or something else than a file now */
  | { outcome: 'vanished' }
  /** it grew beyond the limit */
  | { outcome: 'large' }
  | { outcome: 'unreadable'; error: Error };

/** Reads a file of at most `limit` bytes, again when it changed meanwhile. Never rejects. */
export async function readSmall(path: Buffer, limit: number): Promise<SmallRead> {
  let fd: number | undefined;
  try {
    fd = await openAsync(path, OPEN_FLAGS);
    for (let attempt = 1; ; attempt++) {
      const before = await statOf(fd);
      if (before.type !== 'file') return { outcome: 'vanished' };
      if (before.size > limit) return { outcome: 'large' };
      const content = await readFrom(fd, before.size);
      const after = await statOf(fd);
      const changed = !sameVersion(before, after) || content.length !== after.size;
      if (!changed || attempt === SMALL_ATTEMPTS) return { outcome: 'read', content, stat: after, changed };
    }
  } catch (error) {
    return failedRead(error);
  } finally {
    if (fd !== undefined) await closeAsync(fd).catch(() => {});
  }
}

/** Sorts what went wrong while opening or reading a file into "not there any more" and "cannot be read". */
export function failedRead(error: unknown): { outcome: 'vanished' } | { outcome: 'unreadable'; error: Error } {
  // ELOOP: a symlink is there now. ENXIO: a socket.
  if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO')) return { outcome: 'vanished' };
  return { outcome: 'unreadable', error: error instanceof Error ? error : new Error(String(error)) };
}

async function statOf(fd: number): Promise<FileStat> {
  const askedAt = Date.now();
  return fileStat(await fstatAsync(fd, { bigint: true }), askedAt);
}

async function readFrom(fd: number, size: number): Promise<Buffer> {
  const content = Buffer.allocUnsafeSlow(size);
  let length = 0;
  while (length < size) {
    const { bytesRead } = await readAsync(fd, content, length, size - length, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return content.subarray(0, length);
}

/** True when nothing shows that the file was written between the two looks at it. */
export function sameVersion(a: FileStat, b: FileStat): boolean {
  return a.size === b.size && a.mtime === b.mtime && a.ctime === b.ctime && a.ino === b.ino;
}

/** A large file, opened to be read from its start, maybe twice. */
export class LargeFile {
  private readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  static async open(path: Buffer): Promise<LargeFile> {
    return new LargeFile(await openAsync(path, OPEN_FLAGS));
  }

  stat(): Promise<FileStat> {
    return statOf(this.fd);
  }

  /** Chunks from the start up to `size` bytes, fewer where the file is shorter. The next chunk is read ahead. */
  async *chunks(size: number, signal?: AbortSignal): AsyncGenerator<Buffer> {
    const next = (at: number) => {
      const length = Math.min(CHUNK_SIZE, size - at);
      const buffer = Buffer.allocUnsafeSlow(length);
      const reading = readAsync(this.fd, buffer, 0, length, at).then(({ bytesRead }) => buffer.subarray(0, bytesRead));
      reading.catch(() => {});
      return reading;
    };
    let at = 0;
    let reading = size > 0 ? next(0) : undefined;
    try {
      while (reading) {
        signal?.throwIfAborted();
        const chunk = await reading;
        if (chunk.length === 0) return;
        at += chunk.length;
        reading = at < size ? next(at) : undefined;
        yield chunk;
      }
    } finally {
      // The file must stay open for as long as it is being read.
      await reading?.catch(() => {});
    }
  }

  async close(): Promise<void> {
    await closeAsync(this.fd).catch(() => {});
  }
}

const CHUNK_SIZE = 1024 * 1024;
