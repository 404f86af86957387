import { ChunkedReading, type ChunkSource, type ExpectedData, type ReadingOptions } from './chunked-reading.ts';
import { CutThread } from './cut-thread.ts';
import { ChunkCutter, type Cutter } from './cutter.ts';

/**
 * The calling thread cuts files until they have this many bytes together. Another thread takes 0.1 s of processor time
 * to start. To cut 64 MiB takes 0.3 s.
 */
const INLINE_BYTES = 64 * 1024 * 1024;

/** Reads large files in chunks, one after the other. All files share one cutter. */
export class Cutters {
  private readonly options: ReadingOptions;
  private cutter: ChunkCutter | undefined;
  private thread: CutThread | undefined;
  private inline = INLINE_BYTES;

  constructor(options: ReadingOptions) {
    this.options = options;
  }

  /** Prepares to read the next file. */
  read(file: ChunkSource, expected: ExpectedData): ChunkedReading {
    return new ChunkedReading(file, expected, { ...this.options, cutter: this.choose(expected.size) });
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    await this.thread?.close();
  }

  /** Returns a cutter for a file of `size` bytes. Starts a thread once there is enough data for one. */
  private choose(size: number): Cutter {
    if (!this.thread && size <= this.inline) {
      this.inline -= size;
      this.cutter ??= new ChunkCutter();
      return this.cutter;
    }
    // The thread has memory of its own.
    this.cutter = undefined;
    this.thread ??= new CutThread();
    return this.thread;
  }
}
