import { Readable } from 'node:stream';

/** Small pieces are joined until they reach this size, bytes. */
const JOINED_SIZE = 128 * 1024;
/** Pieces from this size on are passed on without copying, bytes. */
const LARGE_PIECE = 32 * 1024;

interface Waiter {
  resolve(): void;
  reject(error: Error): void;
}

/**
 * Queues bytes between a writer and a readable stream. Large pieces are passed on without copying, because the stream
 * is in object mode: a byte stream would join the waiting pieces and copy everything once more.
 */
export class ByteQueue {
  readonly stream: Readable;
  private readonly limit: number;
  /** pieces for the stream; null marks the end */
  private readonly waiting: (Buffer | null)[] = [];
  private small: Buffer[] = [];
  private smallSize = 0;
  /** bytes that the stream has not taken yet */
  private size = 0;
  private wanted = false;
  private failure: Error | undefined;
  private waiter: Waiter | undefined;

  /** @param limit number of queued bytes above which {@link room} makes the writer wait */
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
    // The reader gets the error from the stream, the writer from its next call.
    this.stream.on('error', (error) => this.fail(error));
  }

  /** Queues a piece. The caller must not change it afterwards. */
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

  /** Waits until there is room for more. Fails after a failure of the stream. Calls must not overlap. */
  room(): Promise<void> | undefined {
    if (this.failure) throw this.failure;
    if (this.size <= this.limit) return undefined;
    return new Promise((resolve, reject) => {
      this.waiter = { resolve, reject };
    });
  }

  /** Destroys the stream. From now on, {@link room} fails with `error`. */
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
