import { createHash, hash } from 'node:crypto';
import { type DataRanges, pairs, rangesText } from '../filesystem/data-ranges.ts';
import type { LargeFile } from '../filesystem/large-file.ts';
import { endOfChunk, MAX_CHUNK } from './chunking.ts';

/** A part of a file, cut where its content says so. */
export interface Chunk {
  /** where it begins in the file, bytes */
  offset: number;
  /** valid only until the next chunk is requested */
  bytes: Buffer;
  /** hex */
  sha256: string;
}

/** The data of a file in pieces, see {@link LargeFile.chunks}. */
type ChunkSource = Pick<LargeFile, 'chunks'>;

/** Size and hash of what was read. */
interface ReadContent {
  size: number;
  sha256: string;
  /** only if the file has holes */
  ranges?: DataRanges;
}

/**
 * Reads the data of a large file in chunks, and hashes each chunk and the whole. The hash of the whole covers the
 * ranges of the data if the file has holes. Errors of the read itself are in `error`, apart from those of the consumer.
 */
export class ChunkedReading {
  content: ReadContent = { size: 0, sha256: '' };
  error: unknown;
  private readonly file: ChunkSource;
  private readonly expected: { size: number; ranges: DataRanges | undefined };
  private readonly heard: (bytes: number) => void;
  private readonly signal: AbortSignal | undefined;
  private readonly window = new ChunkWindow();

  /** @param heard called with the number of bytes as they are read */
  constructor(
    file: ChunkSource,
    expected: { size: number; ranges: DataRanges | undefined },
    heard: (bytes: number) => void,
    signal?: AbortSignal,
  ) {
    this.file = file;
    this.expected = expected;
    this.heard = heard;
    this.signal = signal;
  }

  /**
   * Reads from the start. `content` is complete after the last chunk. If the file has been truncated, it describes the
   * rest. No chunk contains a hole.
   */
  async *chunks(): AsyncGenerator<Chunk> {
    const hashing = createHash('sha256');
    const { size, ranges } = this.expected;
    const read: number[] = [];
    let end = size;
    for (const { offset, length } of pairs(ranges ?? [0, size])) {
      let got = 0;
      for await (const bytes of this.range(offset, length)) {
        hashing.update(bytes);
        yield { offset: offset + got, bytes, sha256: hash('sha256', bytes, 'hex') };
        got += bytes.length;
      }
      if (got > 0) read.push(offset, got);
      if (got === length) continue;
      end = offset + got;
      break;
    }
    if (ranges) hashing.update(rangesText(read));
    this.content = { size: end, sha256: hashing.digest('hex'), ...(ranges && { ranges: read }) };
  }

  private async *range(offset: number, length: number): AsyncGenerator<Buffer> {
    const { window } = this;
    const source = this.file.chunks(offset, length, this.signal)[Symbol.asyncIterator]();
    try {
      for (let step = await this.step(source); !step.done; step = await this.step(source)) {
        this.heard(step.value.length);
        window.add(step.value);
        yield* window.take(false);
      }
      yield* window.take(true);
    } finally {
      await source.return?.(undefined);
    }
  }

  private async step(source: AsyncIterator<Buffer>): Promise<IteratorResult<Buffer>> {
    try {
      return await source.next();
    } catch (error) {
      this.error = error;
      throw error;
    }
  }
}

/** Collects pieces of data until a chunk must end in them. */
class ChunkWindow {
  private bytes = Buffer.allocUnsafeSlow(2 * MAX_CHUNK);
  private start = 0;
  private end = 0;

  /** Adds a piece of at most {@link MAX_CHUNK} bytes. */
  add(piece: Buffer): void {
    if (this.end + piece.length > this.bytes.length) {
      this.bytes.copyWithin(0, this.start, this.end);
      this.end -= this.start;
      this.start = 0;
    }
    piece.copy(this.bytes, this.end);
    this.end += piece.length;
  }

  /** Yields the chunks that are certain, or all of them at the end of the data. */
  *take(atEnd: boolean): Generator<Buffer> {
    while (atEnd ? this.start < this.end : this.end - this.start >= MAX_CHUNK) {
      const from = this.start;
      this.start = endOfChunk(this.bytes, from, this.end);
      yield this.bytes.subarray(from, this.start);
    }
  }
}

/** Reads one part of a file. Undefined if it cannot be read, or has another hash. @throws the signal's reason */
export async function readPart(
  file: ChunkSource,
  { offset, size, sha256 }: { offset: number; size: number; sha256: string },
  signal: AbortSignal | undefined,
): Promise<Buffer | undefined> {
  const pieces: Buffer[] = [];
  try {
    for await (const piece of file.chunks(offset, size, signal)) pieces.push(Buffer.from(piece));
  } catch {
    signal?.throwIfAborted();
    return undefined;
  }
  const bytes = Buffer.concat(pieces);
  return hash('sha256', bytes, 'hex') === sha256 ? bytes : undefined;
}
