import type { Hash } from 'node:crypto';
import type { Readable } from 'node:stream';

const MIB = 1024 * 1024;
/** The usual part, as small as S3 takes: small objects are put whole, and several parts are on their way side by side. */
const PART_SIZE = 5 * MIB;
/** How much of all objects on their way is in memory at a time; beyond that each has the one part that it cannot do without. */
const IN_MEMORY = 20 * MIB;
/** S3 takes no more parts than that. */
export const MAX_PARTS = 10_000;
/** Parts that an expected size is laid out for: some are left for an object that becomes larger than expected. */
const PLANNED_PARTS = 9000;
/** With no size to expect, parts double each time so many are sent: 10,000 of them hold a terabyte. */
const PARTS_OF_A_SIZE = 1300;
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

/** The buffers of all objects that are on their way to a destination: what they take together is bounded. */
export class PartBuffers {
  private readonly idle: Buffer[] = [];
  /** bytes of the buffers in use, and of the idle ones */
  private made = 0;
  private shares = 0;

  /** For one object; to be ended when it is stored or given up. */
  share(): PartShare {
    this.shares++;
    return new PartShare(this);
  }

  /** For shares. `entitled`: to one even where that takes more than the bound. */
  take(size: number, entitled: boolean): Buffer | undefined {
    const at = this.idle.findIndex((buffer) => buffer.length === size);
    if (at >= 0) return this.idle.splice(at, 1)[0];
    while (this.idle.length > 0 && this.made + size > IN_MEMORY) this.drop();
    if (this.made + size > IN_MEMORY && !entitled) return undefined;
    this.made += size;
    // Memory that is never written to is never used: a small object costs what it has.
    return Buffer.allocUnsafeSlow(size);
  }

  /** For shares. */
  give(buffer: Buffer): void {
    this.idle.push(buffer);
    if (this.made > IN_MEMORY) this.drop();
  }

  /** For shares: it is not to be used again. */
  lose({ length }: Buffer): void {
    this.made -= length;
  }

  /** For shares: one has ended. */
  end(): void {
    // An agent that has nothing to store holds nothing.
    if (--this.shares === 0) while (this.idle.length > 0) this.drop();
  }

  private drop(): void {
    this.made -= this.idle.pop()!.length;
  }
}

/** What {@link PartBuffers} is to one object: one buffer is filled while others are sent. */
export class PartShare {
  private readonly buffers: PartBuffers;
  private readonly held = new Set<Buffer>();
  private waiting: (() => void) | undefined;

  constructor(buffers: PartBuffers) {
    this.buffers = buffers;
  }

  /**
   * A buffer of that size: at once if this object holds none or memory allows; else when it has given one back. One call at
   * a time.
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

  /** Instead of {@link give}, after a failure: a request that was given up may still have it in hand. */
  lose(buffer: Buffer): void {
    this.held.delete(buffer);
    this.buffers.lose(buffer);
    this.waiting?.();
  }

  /** To be called once; loses whatever was not given back. */
  end(): void {
    for (const buffer of [...this.held]) this.lose(buffer);
    this.buffers.end();
  }
}
