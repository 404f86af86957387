import { type FileHandle, open } from 'node:fs/promises';
import { READ_FLAGS } from '../../../store/filesystem/read-file.ts';

/**
 * Bytes of one read. A small file needs one read, and a large one a read for each block of up to 128 KiB of content.
 */
const WINDOW = 4096;

const MAGIC = 0xfd2fb528;
const RLE = 1;
const RESERVED = 3;
/** Sizes of the dictionary's id and of the content's size, by their flags, bytes (RFC 8878, 3.1.1.1). */
const ID_SIZES = [0, 1, 2, 4] as const;
const CONTENT_SIZES = [0, 2, 4, 8] as const;

/**
 * Returns true if a file consists of complete zstd frames (RFC 8878, 3.1.1), and has at least one. Follows the sizes of
 * the blocks without decompressing them, so other bytes within a block are not found.
 *
 * @throws the reason of `signal`: a hostile file may consist of blocks of a few bytes
 */
export async function hasWholeFrames(file: string, signal?: AbortSignal): Promise<boolean> {
  const handle = await open(file, READ_FLAGS);
  try {
    const { size } = await handle.stat();
    const reader = new WindowReader(handle, signal);
    let at: number | undefined = 0;
    do at = await endOfFrame(reader, at);
    while (at !== undefined && at < size);
    return at === size;
  } finally {
    await handle.close();
  }
}

/** Returns where the frame that begins at a position ends; undefined if no frame begins there, or it is cut off. */
async function endOfFrame(reader: WindowReader, start: number): Promise<number | undefined> {
  const header = await reader.read(start, 5);
  if (header?.readUInt32LE(0) !== MAGIC) return undefined;
  const descriptor = header.readUInt8(4);
  const isSingle = (descriptor & 0x20) !== 0;
  const contentFlag = descriptor >> 6;
  const contentSize = contentFlag === 0 && isSingle ? 1 : (CONTENT_SIZES[contentFlag] ?? 0);
  let at = start + 5 + (isSingle ? 0 : 1) + (ID_SIZES[descriptor & 3] ?? 0) + contentSize;
  for (let isLast = false; !isLast; ) {
    const block = (await reader.read(at, 3))?.readUIntLE(0, 3);
    if (block === undefined) return undefined;
    isLast = (block & 1) === 1;
    const type = (block >> 1) & 3;
    if (type === RESERVED) return undefined;
    at += 3 + (type === RLE ? 1 : block >> 3);
  }
  return at + ((descriptor & 4) === 0 ? 0 : 4);
}

class WindowReader {
  private readonly handle: FileHandle;
  private readonly window = Buffer.alloc(WINDOW);
  private start = 0;
  private filled = 0;

  private readonly signal: AbortSignal | undefined;

  constructor(handle: FileHandle, signal: AbortSignal | undefined) {
    this.handle = handle;
    this.signal = signal;
  }

  /** Returns `length` bytes at a position; undefined beyond the end of the file. */
  async read(at: number, length: number): Promise<Buffer | undefined> {
    if (at < this.start || at + length > this.start + this.filled) {
      this.signal?.throwIfAborted();
      this.start = at;
      this.filled = (await this.handle.read(this.window, 0, WINDOW, at)).bytesRead;
    }
    const from = at - this.start;
    return from + length > this.filled ? undefined : this.window.subarray(from, from + length);
  }
}
