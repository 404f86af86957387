import type { Hash } from 'node:crypto';
import type { Readable } from 'node:stream';

const MIB = 1024 * 1024;
/**
 * The usual part size, the smallest that S3 allows: small objects need a single request, and several parts are sent in
 * parallel.
 */
const PART_SIZE = 5 * MIB;
/**
 * The most memory for all objects in progress, bytes. Beyond this, each object gets only the one part that it needs.
 */
const IN_MEMORY = 20 * MIB;
/** S3 accepts at most this many parts. */
export const MAX_PARTS = 10_000;
/** The number of parts planned for an expected size. The rest are reserved for objects that grow beyond it. */
const PLANNED_PARTS = 9000;
/** Without an expected size, the part size doubles after this many parts: 10,000 of them hold a terabyte. */
const PARTS_OF_A_SIZE = 1300;
/** Beyond the expected size, it doubles faster, to a limit that no object reaches. */
const UNPLANNED_PARTS_OF_A_SIZE = 50;

/**
 * Returns the size of part `number` (from 0) in bytes. All parts of an object of the expected size are equal, as R2
 * requires. The parts of larger objects, and of those of unknown size, grow.
 */
export function partSize(number: number, expectedSize?: number): number {
  if (expectedSize === undefined) return PART_SIZE * 2 ** Math.floor(number / PARTS_OF_A_SIZE);
  const planned = Math.max(PART_SIZE, Math.ceil(expectedSize / PLANNED_PARTS / MIB) * MIB);
  const doublings = Math.ceil((number + 1 - PLANNED_PARTS) / UNPLANNED_PARTS_OF_A_SIZE);
  return planned * 2 ** Math.max(0, doublings);
}

/** Cuts a body into parts, and hashes it. */
export class PartReader {
  /** bytes read so far */
  size = 0;
  private readonly hash: Hash;
  private readonly chunks: AsyncIterator<Buffer | string>;
  /** the bytes of the last chunk that did not fit the part */
  private rest: Buffer = Buffer.alloc(0);

  constructor(body: Readable, hash: Hash) {
    this.hash = hash;
    this.chunks = body[Symbol.asyncIterator]();
  }

  /** Fills `part` from its start. Returns the number of bytes: less than its length only at the end of the body. */
  async fill(part: Buffer): Promise<number> {
    let filled = 0;
    while (filled < part.length) {
      if (this.rest.length === 0) {
        const { value, done } = await this.chunks.next();
        if (done) break;
        this.rest = Buffer.isBuffer(value) ? value : Buffer.from(value);
        this.hash.update(this.rest);
      }
      const taken = this.rest.copy(part, filled);
      this.rest = this.rest.subarray(taken);
      filled += taken;
    }
    this.size += filled;
    return filled;
  }
}

/** The buffers of all objects in progress to a destination. Limits their total memory. */
export class PartBuffers {
  private readonly idle: Buffer[] = [];
  /** bytes of all buffers, in use and idle */
  private made = 0;
  private shares = 0;

  /** Returns the share of one object. Call its `end` when the object is stored or given up. */
  share(): PartShare {
    this.shares++;
    return new PartShare(this);
  }

  /** Used by shares. Returns undefined if memory is short; with `entitled`, exceeds the limit instead. */
  take(size: number, entitled: boolean): Buffer | undefined {
    const at = this.idle.findIndex((buffer) => buffer.length === size);
    if (at >= 0) return this.idle.splice(at, 1)[0];
    while (this.idle.length > 0 && this.made + size > IN_MEMORY) this.drop();
    if (this.made + size > IN_MEMORY && !entitled) return undefined;
    this.made += size;
    // Memory that is never written is never used: a small object costs only its own size.
    return Buffer.allocUnsafeSlow(size);
  }

  /** Used by shares. Returns a buffer for reuse. */
  give(buffer: Buffer): void {
    this.idle.push(buffer);
    if (this.made > IN_MEMORY) this.drop();
  }

  /** Used by shares. Discards a buffer that must not be reused. */
  lose({ length }: Buffer): void {
    this.made -= length;
  }

  /** Used by shares. Ends one share. */
  end(): void {
    // An agent that stores nothing uses no memory for buffers.
    if (--this.shares === 0) while (this.idle.length > 0) this.drop();
  }

  private drop(): void {
    this.made -= this.idle.pop()!.length;
  }
}

/** The {@link PartBuffers} of one object: it fills one buffer while others are being sent. */
export class PartShare {
  private readonly buffers: PartBuffers;
  private readonly held = new Set<Buffer>();
  private waiting: (() => void) | undefined;

  constructor(buffers: PartBuffers) {
    this.buffers = buffers;
  }

  /**
   * Returns a buffer of `size` bytes. Waits only if this object holds one already and memory is short, until the object
   * returns one. Allows one call at a time.
   */
  async take(size: number): Promise<Buffer> {
    for (;;) {
      const buffer = this.buffers.take(size, this.held.size === 0);
      if (buffer) {
        this.held.add(buffer);
        return buffer;
      }
      await new Promise<void>((resolve) => {
        this.waiting = resolve;
      });
    }
  }

  give(buffer: Buffer): void {
    this.held.delete(buffer);
    this.buffers.give(buffer);
    this.waiting?.();
  }

  /** Use this instead of {@link give} after a failure: an abandoned request may still read the buffer. */
  lose(buffer: Buffer): void {
    this.held.delete(buffer);
    this.buffers.lose(buffer);
    this.waiting?.();
  }

  /** Discards all buffers that were not returned. Call it once. */
  end(): void {
    for (const buffer of [...this.held]) this.lose(buffer);
    this.buffers.end();
  }
}
