import type { ByteSource } from './block-cache.ts';

/** Bytes that are read and dropped rather than skipped by a new request. */
const MAX_GAP = 1024 * 1024;

/** Reads ranges of a zip. Ranges that follow each other are read with a single request. */
export class ForwardReader {
  private readonly source: ByteSource;
  private stream: AsyncIterator<Buffer> | undefined;
  /** what is left of the last piece */
  private rest: Buffer = Buffer.alloc(0);
  /** offset of the rest, or of the next piece */
  private position = 0;

  constructor(source: ByteSource) {
    this.source = source;
  }

  /**
   * Yields the bytes between two offsets, fewer if the zip is shorter. A piece is valid only until the next one is
   * requested.
   */
  async *read(start: number, end: number): AsyncGenerator<Buffer> {
    if (!this.stream || start < this.position || start > this.position + MAX_GAP) await this.open(start);
    while (this.position < end && (await this.fill())) {
      const from = Math.max(0, start - this.position);
      const piece = this.rest.subarray(from, end - this.position);
      const taken = Math.min(from, this.rest.length) + piece.length;
      this.rest = this.rest.subarray(taken);
      this.position += taken;
      if (piece.length > 0) yield piece;
    }
  }

  async close(): Promise<void> {
    await this.stream?.return?.(undefined);
    this.stream = undefined;
  }

  private async open(start: number): Promise<void> {
    await this.close();
    this.rest = Buffer.alloc(0);
    this.position = start;
    if (start >= this.source.size) return;
    this.stream = (await this.source.stream(start, this.source.size))[Symbol.asyncIterator]();
  }

  /** Returns false at the end of the zip. */
  private async fill(): Promise<boolean> {
    while (this.rest.length === 0) {
      const step = await this.stream?.next();
      if (!step || step.done) return false;
      this.rest = step.value;
    }
    return true;
  }
}
