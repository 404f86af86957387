import type { Hash } from 'node:crypto';
import type { Readable } from 'node:stream';

const MIB = 1024 * 1024;
/** The usual part: small objects are put whole, and some parts fit into memory side by side. */
const PART_SIZE = 8 * MIB;
/** How much of an object is in memory at a time, unless one part alone is larger. */
const IN_MEMORY = 32 * MIB;
/** S3 takes no more parts than that. */
export const MAX_PARTS = 10_000;
/** Parts that an expected size is laid out for: some are left for an object that becomes larger than expected. */
const PLANNED_PARTS = 9000;
/** With no size to expect, parts double each time so many are sent: 10,000 of them hold a terabyte. */
const PARTS_OF_A_SIZE = 1500;
/** Past the expected size they double faster, to an end that no object reaches. */
const UNPLANNED_PARTS_OF_A_SIZE = 50;

/**
 * How large part `number` (from 0) is, in bytes. All are equal for an object of the expected size, which is what R2 wants;
 * one of unknown or larger size has parts that grow.
 */
export function partSize(number: number, expectedSize?: number): number {
  if (expectedSize === undefined) return PART_SIZE * 2 ** Math.floor(number / PARTS_OF_A_SIZE);
  const planned = Math.max(PART_SIZE, Math.ceil(expectedSize / PLANNED_PARTS / MIB) * MIB);
  const doublings = Math.ceil((number + 1 - PLANNED_PARTS) / UNPLANNED_PARTS_OF_A_SIZE);
  return planned * 2 ** Math.max(0, doublings);
}

/** How many parts of that size may be in memory: one is filled while the others are sent. */
export function partsInMemory(size: number): number {
  return Math.max(1, Math.floor(IN_MEMORY / size));
}

/** Cuts a body into parts, hashing what passes. */
export class PartReader {
  /** bytes so far */
  size = 0;
  private readonly hash: Hash;
  private readonly chunks: AsyncIterator<Buffer | string>;
  /** what the last chunk had beyond the part it ended */
  private rest: Buffer = Buffer.alloc(0);

  constructor(body: Readable, hash: Hash) {
    this.hash = hash;
    this.chunks = body[Symbol.asyncIterator]();
  }

  /** Fills `part` from its start. Returns how many bytes there were: fewer than it has room for only at the end. */
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

/** A few buffers of one size that are used again and again. */
export class PartBuffers {
  private free: Buffer[] = [];
  private made = 0;
  private size = 0;
  private waiting: (() => void) | undefined;

  /** A buffer of that size, when there is one. With another size than before, all others must have been given back. */
  async take(size: number): Promise<Buffer> {
    if (size !== this.size) {
      this.free = [];
      this.made = 0;
      this.size = size;
    }
    for (;;) {
      const buffer = this.free.pop();
      if (buffer) return buffer;
      if (this.made < partsInMemory(size)) {
        this.made++;
        // Memory that is never written to is never used: a small object costs what it has.
        return Buffer.allocUnsafeSlow(size);
      }
      await new Promise<void>((resolve) => {
        this.waiting = resolve;
      });
    }
  }

  give(buffer: Buffer): void {
    this.free.push(buffer);
    this.waiting?.();
  }
}
