import { createHash } from 'node:crypto';
import { type DataRanges, pairs, rangesText } from '../filesystem/data-ranges.ts';
import type { LargeFile } from '../filesystem/large-file.ts';
import type { Wanted } from './known.ts';

/**
 * Reads and hashes the data of a large file. The hash covers the ranges of the data if the file has holes. Errors of
 * the read itself are kept in `error`, apart from those of the consumer.
 */
export class HashedReading {
  content: Wanted = { size: 0, sha256: '' };
  error: unknown;
  private readonly file: LargeFile;
  private readonly expected: { size: number; ranges: DataRanges | undefined };
  private readonly heard: (bytes: number) => void;
  private readonly signal: AbortSignal | undefined;

  /** @param heard called with the number of bytes as they are read */
  constructor(
    file: LargeFile,
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
   * rest.
   */
  async *chunks(): AsyncGenerator<Buffer> {
    const hashing = createHash('sha256');
    const { size, ranges } = this.expected;
    const read: number[] = [];
    let end = size;
    for (const { offset, length } of pairs(ranges ?? [0, size])) {
      let got = 0;
      for await (const chunk of this.range(offset, length)) {
        hashing.update(chunk);
        got += chunk.length;
        yield chunk;
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
    const source = this.file.chunks(offset, length, this.signal)[Symbol.asyncIterator]();
    try {
      for (let step = await this.step(source); !step.done; step = await this.step(source)) {
        this.heard(step.value.length);
        yield step.value;
      }
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
