import { read } from 'node:fs';
import { promisify } from 'node:util';

const readAsync = promisify(read);

/** The size of the chunks, bytes. */
const CHUNK_SIZE = 1024 * 1024;

/**
 * Yields `length` bytes of an open file from an offset in chunks, fewer if the file is shorter. A chunk is valid only
 * until the next one is requested. The next one is read ahead.
 */
export async function* readRangeOf(
  fd: number,
  offset: number,
  length: number,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  const end = offset + length;
  // Two buffers take turns. New memory for each chunk would take as long as reading the file.
  const buffers: Buffer[] = [];
  const next = (at: number) => {
    const size = Math.min(CHUNK_SIZE, end - at);
    const buffer = (buffers.length < 2 ? undefined : buffers.shift()) ?? Buffer.allocUnsafeSlow(size);
    buffers.push(buffer);
    const reading = readAsync(fd, buffer, 0, Math.min(size, buffer.length), at).then(({ bytesRead }) =>
      buffer.subarray(0, bytesRead),
    );
    reading.catch(() => {});
    return reading;
  };
  let at = offset;
  let reading = length > 0 ? next(offset) : undefined;
  try {
    while (reading) {
      signal?.throwIfAborted();
      const chunk: Buffer = await reading;
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
