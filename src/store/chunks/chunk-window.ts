import { hash } from 'node:crypto';
import { endOfChunk, MAX_CHUNK } from './chunking.ts';

/** A chunk whose end is known. */
export interface Cut {
  /** bytes */
  size: number;
  /** of the chunk, hex */
  sha256: string;
}

/** A chunk, and its content. */
export interface CutBytes extends Cut {
  /** Returns a copy of the content. Call it before the next piece is added. */
  bytes(): Buffer;
}

/** Collects pieces of data until a chunk must end in them. */
export class ChunkWindow {
  private bytes = Buffer.allocUnsafeSlow(2 * MAX_CHUNK);
  private start = 0;
  private end = 0;

  /** Adds a piece of at most {@link MAX_CHUNK} bytes. Returns the chunks that are certain. */
  add(piece: Buffer): CutBytes[] {
    if (this.end + piece.length > this.bytes.length) {
      this.bytes.copyWithin(0, this.start, this.end);
      this.end -= this.start;
      this.start = 0;
    }
    piece.copy(this.bytes, this.end);
    this.end += piece.length;
    return this.take(false);
  }

  /** Returns the rest as chunks. */
  endRange(): CutBytes[] {
    return this.take(true);
  }

  /** Forgets the rest. */
  clear(): void {
    this.start = this.end;
  }

  private take(atEnd: boolean): CutBytes[] {
    const cuts: CutBytes[] = [];
    while (atEnd ? this.start < this.end : this.end - this.start >= MAX_CHUNK) {
      const from = this.start;
      this.start = endOfChunk(this.bytes, from, this.end);
      const bytes = this.bytes.subarray(from, this.start);
      cuts.push({ size: bytes.length, sha256: hash('sha256', bytes, 'hex'), bytes: () => Buffer.from(bytes) });
    }
    return cuts;
  }
}
