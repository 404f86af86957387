import { close, fstat, open, read } from 'node:fs';
import { promisify } from 'node:util';
import { type DataRanges, findData } from './data-ranges.ts';
import { type FileStat, fileStat } from './file-stat.ts';
import { isAt, READ_FLAGS } from './read-file.ts';

const openAsync = promisify(open);
const fstatAsync = promisify(fstat);
const closeAsync = promisify(close);
const readAsync = promisify(read);

const CHUNK_SIZE = 1024 * 1024;

/** A large file that is read from its start, possibly twice. */
export class LargeFile {
  private readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  static async open(path: Buffer): Promise<LargeFile> {
    return new LargeFile(await openAsync(path, READ_FLAGS));
  }

  /** See {@link isAt}. */
  isAt(path: Buffer): boolean {
    return isAt(this.fd, path);
  }

  async stat(): Promise<FileStat> {
    const askedAt = Date.now();
    return fileStat(await fstatAsync(this.fd, { bigint: true }), askedAt);
  }

  /** Returns the ranges that hold data; see {@link findData}. */
  async dataRanges({ size, sparse }: FileStat): Promise<DataRanges | undefined> {
    return sparse ? findData(this.fd, size) : undefined;
  }

  /** Yields `length` bytes from `start` in chunks, fewer if the file is shorter. The next chunk is read ahead. */
  async *chunks(start: number, length: number, signal?: AbortSignal): AsyncGenerator<Buffer> {
    const end = start + length;
    const next = (at: number) => {
      const length = Math.min(CHUNK_SIZE, end - at);
      const buffer = Buffer.allocUnsafeSlow(length);
      const reading = readAsync(this.fd, buffer, 0, length, at).then(({ bytesRead }) => buffer.subarray(0, bytesRead));
      reading.catch(() => {});
      return reading;
    };
    let at = start;
    let reading = length > 0 ? next(start) : undefined;
    try {
      while (reading) {
        signal?.throwIfAborted();
        const chunk = await reading;
        if (chunk.length === 0) return;
        at += chunk.length;
        reading = at < end ? next(at) : undefined;
        yield chunk;
      }
    } finally {
      // The file must stay open while a read is in progress.
      await reading?.catch(() => {});
    }
  }

  async close(): Promise<void> {
    await closeAsync(this.fd).catch(() => {});
  }
}

/**
 * Yields chunks of a part of an open file, fewer if the file is shorter. A chunk is valid only until the next one is
 * requested.
 */
export async function* readRangeOf(fd: number, offset: number, length: number): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK_SIZE, length));
  for (let at = offset; at < offset + length; ) {
    const { bytesRead } = await readAsync(fd, buffer, 0, Math.min(buffer.length, offset + length - at), at);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}
