import { Readable } from 'node:stream';

/** Small pieces are joined up to this size. */
const JOINED_SIZE = 128 * 1024;
/** Pieces from this size on are not worth copying. */
const LARGE_PIECE = 32 * 1024;

interface Waiter {
  resolve(): void;
  reject(error: Error): void;
}

/**
 * Bytes on their way from one who has them to a stream that is read. Larger pieces are passed on as they are: a stream that
 * counts bytes, not pieces, would join what waits and so copy everything once more.
 */
export class ByteQueue {
  readonly stream: Readable;
  private readonly limit: number;
  /** null marks the end */
  private readonly waiting: (Buffer | null)[] = [];
  private small: Buffer[] = [];
  private smallSize = 0;
  /** bytes that nobody has taken yet */
  private size = 0;
  private wanted = false;
  private failure: Error | undefined;
  private waiter: Waiter | undefined;

  /** @param limit how many bytes may wait before {@link room} makes the writer wait */
  constructor(limit: number) {
    this.limit = limit;
    this.stream = new Readable({
      objectMode: true,
      highWaterMark: 1,
      read: () => {
        this.wanted = true;
        this.pass();
      },
    });
    // Whoever reads the stream is told by it, and the writer by the next call.
    this.stream.on('error', (error) => this.fail(error));
  }

  /** Takes a piece, which must not be changed any more. */
  write(piece: Buffer): void {
    this.size += piece.length;
    if (piece.length < LARGE_PIECE) {
      this.small.push(piece);
      this.smallSize += piece.length;
      if (this.smallSize >= JOINED_SIZE) this.join();
    } else {
      this.join();
      this.waiting.push(piece);
    }
    this.pass();
  }

  end(): void {
    this.join();
    this.waiting.push(null);
    this.pass();
  }

  /** Waits until there is room for more; rejects after a failure. One call at a time. */
  room(): Promise<void> | undefined {
    if (this.failure) throw this.failure;
    if (this.size <= this.limit) return undefined;
    return new Promise((resolve, reject) => {
      this.waiter = { resolve, reject };
    });
  }

  /** Destroys the stream; from now on the writer is told so. */
  fail(error: Error): void {
    if (this.failure) return;
    this.failure = error;
    this.stream.destroy(error);
    this.waiter?.reject(error);
    this.waiting.length = 0;
    this.small = [];
  }

  private join(): void {
    if (this.smallSize === 0) return;
    this.waiting.push(this.small.length === 1 ? this.small[0]! : Buffer.concat(this.small, this.smallSize));
    this.small = [];
    this.smallSize = 0;
  }

  private pass(): void {
    while (this.wanted && this.waiting.length > 0 && !this.failure) {
      const piece = this.waiting.shift()!;
      this.size -= piece?.length ?? 0;
      this.wanted = this.stream.push(piece);
    }
    if (this.size > this.limit) return;
    this.waiter?.resolve();
    this.waiter = undefined;
  }
}
