import { hash } from 'node:crypto';
import { type DataRanges, pairs, rangesText } from '../filesystem/data-ranges.ts';
import type { LargeFile } from '../filesystem/large-file.ts';
import type { CutBytes } from './chunk-window.ts';
import type { Cutter } from './cutter.ts';

/** A part of a file, cut where its content says so. */
interface Chunk extends CutBytes {
  /** where it begins in the file, bytes */
  offset: number;
}

/** The data of a file in pieces, see {@link LargeFile.chunks}. */
export type ChunkSource = Pick<LargeFile, 'chunks'>;

/** Size and hash of what was read. */
interface ReadContent {
  size: number;
  sha256: string;
  /** only if the file has holes */
  ranges?: DataRanges;
}

/** The data that is expected in a file. */
export interface ExpectedData {
  /** of the file, bytes */
  size: number;
  /** absent: the file has no holes */
  ranges: DataRanges | undefined;
}

/** Options for reading any number of files. */
export interface ReadingOptions {
  /** called with the number of bytes as they are read */
  heard: (bytes: number) => void;
  signal: AbortSignal | undefined;
}

/**
 * Reads the data of a large file in chunks, and hashes each chunk and the whole. The hash of the whole covers the
 * ranges of the data if the file has holes. Errors of the read itself are in `error`, apart from those of the consumer.
 */
export class ChunkedReading {
  content: ReadContent = { size: 0, sha256: '' };
  error: unknown;
  private readonly file: ChunkSource;
  private readonly expected: ExpectedData;
  private readonly heard: (bytes: number) => void;
  private readonly signal: AbortSignal | undefined;
  private readonly cutter: Cutter;

  constructor(
    file: ChunkSource,
    expected: ExpectedData,
    { cutter, heard, signal }: ReadingOptions & { cutter: Cutter },
  ) {
    this.file = file;
    this.expected = expected;
    this.cutter = cutter;
    this.heard = heard;
    this.signal = signal;
  }

  /**
   * Reads from the start. `content` is complete after the last chunk. If the file has been truncated, it describes the
   * rest. No chunk contains a hole.
   */
  async *chunks(): AsyncGenerator<Chunk> {
    const { size, ranges } = this.expected;
    const read: number[] = [];
    let end = size;
    await this.cutter.reset();
    for (const { offset, length } of pairs(ranges ?? [0, size])) {
      let got = 0;
      for await (const cut of this.range(offset, length)) {
        yield { ...cut, offset: offset + got };
        got += cut.size;
      }
      if (got > 0) read.push(offset, got);
      if (got === length) continue;
      end = offset + got;
      break;
    }
    const sha256 = await this.cutter.finish(ranges ? rangesText(read) : '');
    this.content = { size: end, sha256, ...(ranges && { ranges: read }) };
  }

  private async *range(offset: number, length: number): AsyncGenerator<CutBytes> {
    const source = this.file.chunks(offset, length, this.signal)[Symbol.asyncIterator]();
    try {
      for (let step = await this.step(source); !step.done; step = await this.step(source)) {
        this.heard(step.value.length);
        yield* await this.cutter.add(step.value);
      }
      yield* await this.cutter.endRange();
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
