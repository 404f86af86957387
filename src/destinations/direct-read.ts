import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { hasErrno } from '../base/errors.ts';

/**
 * Reads files from the disk, past the page cache of the system (`O_DIRECT`, open(2)). A file that was just written is
 * still in the cache, so an ordinary read would not show that the disk stored other bytes.
 */

/** Direct reads begin at multiples of this, and the buffer does too. Bytes; no disk has larger blocks. */
const BLOCK = 4096;
const BUFFER_SIZE = 1024 * 1024;
const WASM_PAGE = 64 * 1024;

/** The types of Node lack this global. */
const { WebAssembly } = globalThis as unknown as {
  WebAssembly: { Memory: new (size: { initial: number; maximum: number }) => { buffer: ArrayBuffer } };
};

let shared: Buffer | undefined;

/** Returns a new buffer that begins at a page of memory, as direct reads require. The memory of WebAssembly does. */
function alignedBuffer(): Buffer {
  const pages = BUFFER_SIZE / WASM_PAGE;
  return Buffer.from(new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer);
}

/** Settles when the present read is over: all reads share the buffer. */
let last: Promise<unknown> = Promise.resolve();

/**
 * Reads a file. Reads of one thread wait for each other.
 *
 * @param on called with each piece, which is valid only during the call
 * @param restart called if the file is read again from its beginning
 * @returns whether the bytes came from the disk: false if the file system allows only reads through the page cache
 * @throws the system error
 */
export function readPastCache(
  file: string | Buffer,
  on: (piece: Buffer) => void,
  restart: () => void,
): Promise<boolean> {
  const read = last.then(() => readAlone(file, on, restart));
  last = read.catch(() => undefined);
  return read;
}

async function readAlone(file: string | Buffer, on: (piece: Buffer) => void, restart: () => void): Promise<boolean> {
  shared ??= alignedBuffer();
  try {
    if (await readAll(file, constants.O_DIRECT, shared, on)) return true;
  } catch (error) {
    if (!isUnsupported(error)) throw error;
  }
  restart();
  await readAll(file, 0, shared, on);
  return false;
}

/** Returns whether all bytes of the file were read. */
async function readAll(
  file: string | Buffer,
  flag: number,
  into: Buffer,
  on: (piece: Buffer) => void,
): Promise<boolean> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | flag);
  try {
    const pieces = readPieces(handle, flag !== 0, into);
    for (;;) {
      const { value, done } = await pieces.next();
      if (done) return value;
      on(value);
    }
  } finally {
    await handle.close();
  }
}

/**
 * Yields the pieces of a file, each valid until the next one. Returns whether these are all bytes of the file.
 *
 * @param from where to begin, bytes
 */
async function* readPieces(
  handle: FileHandle,
  isDirect: boolean,
  into: Buffer,
  from = 0,
): AsyncGenerator<Buffer, boolean> {
  let position = from;
  for (;;) {
    const { bytesRead: read } = await handle.read(into, 0, into.length, position);
    position += read;
    if (read > 0) yield into.subarray(0, read);
    // A direct read cannot continue in the middle of a block: only the end of the file is there.
    const atEnd = read === 0 || (isDirect && position % BLOCK !== 0);
    if (atEnd) return position === (await handle.stat()).size;
  }
}

/** Not every file system supports direct reads, and some support only larger blocks. */
function isUnsupported(error: unknown): boolean {
  return hasErrno(error, 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS');
}

/**
 * Opens a file for {@link streamPastCache}: for direct reads if its file system supports them.
 *
 * @param flags see open(2)
 * @throws the system error
 */
export async function openPastCache(file: string, flags: number): Promise<FileHandle> {
  try {
    return await open(file, flags | constants.O_DIRECT);
  } catch (error) {
    if (!isUnsupported(error)) throw error;
    return open(file, flags);
  }
}

/** Buffers of streams that have ended. */
const spare: Buffer[] = [];

/**
 * Streams a file that {@link openPastCache} has opened, and closes it. The stream fails with the system error.
 *
 * @param signal destroys the stream
 */
export function streamPastCache(handle: FileHandle, signal?: AbortSignal): Readable {
  async function* pieces() {
    const into = spare.pop() ?? alignedBuffer();
    let position = 0;
    try {
      for await (const piece of readPieces(handle, true, into)) {
        position += piece.length;
        yield Buffer.from(piece);
      }
    } catch (error) {
      if (!isUnsupported(error)) throw error;
    } finally {
      spare.push(into);
    }
    // Opened again for reads through the cache: the rest, if the end of the file is not where direct reads end.
    const cached = await open(`/proc/self/fd/${handle.fd}`, constants.O_RDONLY);
    try {
      const rest = Buffer.allocUnsafe(BUFFER_SIZE);
      for await (const piece of readPieces(cached, false, rest, position)) yield Buffer.from(piece);
    } finally {
      await cached.close();
    }
  }
  const stream = Readable.from(pieces(), { objectMode: false, ...(signal ? { signal } : {}) });
  // Not in the generator, which does not run if nobody reads.
  stream.once('close', () => void handle.close().catch(() => {}));
  return stream;
}
