import { LifeboatError } from '../../base/errors.ts';

/** Provides ranges of a zip's bytes, from a destination or from a local file. */
export interface ByteSource {
  /** size of the zip, bytes */
  size: number;
  /** A piece is valid only until the next one is requested. */
  stream(start: number, end: number): Promise<AsyncIterable<Buffer>>;
}

const BLOCK_SIZE = 4 * 1024 * 1024;
const BLOCKS_KEPT = 3;

/** Returns OBJECT_DAMAGED for a pack, with a message that says what is wrong. */
export function damagedPack(pack: string, what: string, cause?: unknown): LifeboatError {
  return new LifeboatError('OBJECT_DAMAGED', `pack ${pack} is damaged: ${what}`, { cause });
}

/** Reads aligned blocks and caches the last few, so that many small contents need only one request. */
export class BlockCache {
  private readonly id: string;
  private readonly source: ByteSource;
  private readonly blocks = new Map<number, Promise<Buffer>>();

  constructor(id: string, source: ByteSource) {
    this.id = id;
    this.source = source;
  }

  async read(start: number, end: number): Promise<Buffer> {
    if (start < 0 || end > this.source.size || start > end) throw damagedPack(this.id, 'an entry is outside the pack');
    const parts: Buffer[] = [];
    for (let at = start; at < end; ) {
      const number = Math.floor(at / BLOCK_SIZE);
      const from = number * BLOCK_SIZE;
      const block = await this.block(number);
      const part = block.subarray(at - from, Math.min(end - from, BLOCK_SIZE));
      if (part.length === 0) throw damagedPack(this.id, 'it ends too early');
      parts.push(part);
      at += part.length;
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  /** Forgets all blocks. */
  clear(): void {
    this.blocks.clear();
  }

  private block(number: number): Promise<Buffer> {
    const known = this.blocks.get(number);
    if (known) return known;
    const oldest = this.blocks.keys().next();
    if (this.blocks.size >= BLOCKS_KEPT && !oldest.done) this.blocks.delete(oldest.value);
    const start = number * BLOCK_SIZE;
    const block = this.fetch(start, Math.min(start + BLOCK_SIZE, this.source.size));
    this.blocks.set(number, block);
    block.catch(() => this.blocks.delete(number));
    return block;
  }

  private async fetch(start: number, end: number): Promise<Buffer> {
    const block = Buffer.allocUnsafeSlow(end - start);
    let size = 0;
    for await (const chunk of await this.source.stream(start, end)) {
      chunk.copy(block, size);
      size += chunk.length;
      if (size > block.length) break;
    }
    if (size !== block.length) throw damagedPack(this.id, 'a part of it has the wrong length');
    return block;
  }
}
