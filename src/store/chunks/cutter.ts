import { createHash } from 'node:crypto';
import { ChunkWindow, type CutBytes } from './chunk-window.ts';

/**
 * Cuts the data of one file after the other into chunks, and hashes each chunk and the whole. A range is a part of a
 * file without holes: no chunk goes beyond its end.
 */
export interface Cutter {
  /**
   * Adds a piece of at most `MAX_CHUNK` bytes, which the caller may overwrite afterwards. Returns the next chunks
   * of the range. Those that this piece completes may come later.
   */
  add(piece: Buffer): Promise<CutBytes[]> | CutBytes[];
  /** Ends a range. Returns its last chunks. */
  endRange(): Promise<CutBytes[]> | CutBytes[];
  /** Ends the file. Returns the SHA-256 of its data and of `suffix`, hex. */
  finish(suffix: string): Promise<string> | string;
  /** Forgets the file, so that another one can begin. */
  reset(): Promise<void> | void;
}

/** Cuts and hashes in this thread, at once. */
export class ChunkCutter implements Cutter {
  private readonly window = new ChunkWindow();
  private whole = createHash('sha256');

  add(piece: Buffer): CutBytes[] {
    this.whole.update(piece);
    return this.window.add(piece);
  }

  endRange(): CutBytes[] {
    return this.window.endRange();
  }

  finish(suffix: string): string {
    const sha256 = this.whole.update(suffix).digest('hex');
    this.reset();
    return sha256;
  }

  reset(): void {
    this.window.clear();
    this.whole = createHash('sha256');
  }
}
