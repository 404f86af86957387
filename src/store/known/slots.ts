import { closeSync, fstatSync, fsync, ftruncateSync, openSync, renameSync, rmSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { readAll, writeAll } from './file-io.ts';

/** Bytes of a slot: 8 of the hash, 8 for the value + 1; 0 marks a free slot. */
const SLOT = 16;
/** The pages in which a table is read and written. */
export interface Paging {
  /** the size of a page, bytes: a power of two, from 4096 to 65536 */
  page: number;
  /** at most this many pages are in memory */
  most: number;
}
/** Lookups are spread over the whole file, so a page is small. At most 32 MiB are in memory. */
export const FOR_LOOKUPS: Paging = { page: 4096, most: 8192 };
/** Members are added in the order of their slots, so a page is large. At most 4 MiB are in memory. */
export const FOR_CHANGES: Paging = { page: 64 * 1024, most: 64 };
const MAX_LOAD = 0.7;
/** A lookup ends after this many slots. Only damage makes it so long. */
const MAX_PROBES = 1000;
const sync = promisify(fsync);
/** The smallest number of slots. */
const START_SLOTS = 4096;

/** The first 64 bits of a hash. */
export interface Hash {
  high: number;
  low: number;
}

/**
 * A hash table in a file, from 64 bits of a hash to an offset. Memory does not grow with the table. A damaged table
 * returns wrong offsets, so the caller compares what it finds there.
 *
 * Add many members in the order of {@link slotOf}. In any other order, each of them reads and writes a page once the
 * table is larger than the pages in memory.
 */
export class Slots {
  private readonly path: string;
  private readonly paging: Paging;
  private file: number;
  private pages = new Map<number, { bytes: Buffer; dirty: boolean }>();
  private count: number;
  private used: number;

  private constructor(path: string, file: number, of: { count: number; used: number; paging: Paging }) {
    this.path = path;
    this.file = file;
    this.count = of.count;
    this.used = of.used;
    this.paging = of.paging;
  }

  /**
   * Opens a table, with {@link FOR_LOOKUPS} only to read it. `used`: the number of its members. Returns undefined if
   * the file has no whole table.
   */
  static open(path: string, used: number, paging: Paging): Slots | undefined {
    const file = openSync(path, paging === FOR_LOOKUPS ? 'r' : 'r+');
    try {
      const count = fstatSync(file).size / SLOT;
      const isWhole = count >= START_SLOTS && Number.isInteger(Math.log2(count)) && used < count * MAX_LOAD;
      if (isWhole) return new Slots(path, file, { count, used, paging });
    } catch (error) {
      closeSync(file);
      throw error;
    }
    closeSync(file);
    return undefined;
  }

  /** Creates an empty table to add members, and replaces an earlier one. */
  static create(path: string, paging: Paging, count = START_SLOTS): Slots {
    const file = openSync(path, 'w+', 0o600);
    try {
      ftruncateSync(file, count * SLOT);
    } catch (error) {
      closeSync(file);
      throw error;
    }
    return new Slots(path, file, { count, used: 0, paging });
  }

  get size(): number {
    return this.used;
  }

  /** Returns the slot at which the search for a hash begins. It changes when the table grows. */
  slotOf({ low }: Pick<Hash, 'low'>): number {
    return low % this.count;
  }

  get({ high, low }: Hash): number | undefined {
    const { page, at } = this.find(high, low);
    const value = page.bytes.readDoubleLE(at + 8) - 1;
    return value >= 0 && Number.isSafeInteger(value) ? value : undefined;
  }

  /** Makes room for so many more members. */
  async reserve(more: number): Promise<void> {
    while (this.used + more > this.count * MAX_LOAD) await this.grow();
  }

  /** Adds a member, for which there must be room, or replaces its value. See {@link reserve}. */
  set({ high, low }: Hash, value: number): void {
    this.put(high, low, value);
  }

  /** Writes all changes to the disk. */
  async flush(): Promise<void> {
    this.writePages();
    await sync(this.file);
  }

  close(): void {
    closeSync(this.file);
  }

  private put(high: number, low: number, value: number): void {
    const { page, at } = this.find(high, low);
    const { bytes } = page;
    if (bytes.readDoubleLE(at + 8) === 0) this.used++;
    bytes.writeUInt32LE(high, at);
    bytes.writeUInt32LE(low, at + 4);
    bytes.writeDoubleLE(value + 1, at + 8);
    page.dirty = true;
  }

  private find(high: number, low: number) {
    const slotsOfPage = this.paging.page / SLOT;
    for (let slot = this.slotOf({ low }), tried = 0; ; slot = (slot + 1) % this.count, tried++) {
      const page = this.page(Math.floor(slot / slotsOfPage));
      const { bytes } = page;
      const at = (slot % slotsOfPage) * SLOT;
      const isFree = bytes.readDoubleLE(at + 8) === 0;
      const isOwn = bytes.readUInt32LE(at) === high && bytes.readUInt32LE(at + 4) === low;
      if (isFree || isOwn || tried === MAX_PROBES) return { page, at };
    }
  }

  private page(number: number) {
    const known = this.pages.get(number);
    if (known) return known;
    const { page: size, most } = this.paging;
    const page = this.pages.size >= most ? this.dropOldest() : { bytes: Buffer.alloc(size), dirty: false };
    page.bytes.fill(0, readAll(this.file, page.bytes, number * size));
    this.pages.set(number, page);
    return page;
  }

  /** Removes the page that was read first. Returns it to be used again. */
  private dropOldest() {
    const [oldest, page] = this.pages.entries().next().value as [number, { bytes: Buffer; dirty: boolean }];
    this.write(oldest, page);
    this.pages.delete(oldest);
    return page;
  }

  private writePages(): void {
    for (const [number, page] of this.pages) this.write(number, page);
  }

  private write(number: number, page: { bytes: Buffer; dirty: boolean }): void {
    if (!page.dirty) return;
    writeAll(this.file, page.bytes, number * this.paging.page);
    page.dirty = false;
  }

  /** Doubles the table, in a new file that replaces the old one. */
  private async grow(): Promise<void> {
    const path = `${this.path}.new`;
    this.writePages();
    const next = Slots.create(path, this.paging, this.count * 2);
    try {
      const { page: size } = this.paging;
      const bytes = Buffer.alloc(size);
      // A member moves to one of two slots, so both halves of the new table are written in order.
      for (let from = 0; from < this.count * SLOT; from += size) {
        await turn();
        readAll(this.file, bytes, from);
        for (let at = 0; at < size; at += SLOT) {
          const value = bytes.readDoubleLE(at + 8);
          if (value > 0) next.put(bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4), value - 1);
        }
      }
      next.writePages();
      renameSync(path, this.path);
    } catch (error) {
      next.close();
      rmSync(path, { force: true });
      throw error;
    }
    closeSync(this.file);
    this.pages = next.pages;
    this.file = next.file;
    this.count = next.count;
    this.used = next.used;
  }
}
