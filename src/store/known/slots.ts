import { closeSync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, renameSync, writeSync } from 'node:fs';

/** Bytes of a slot: 8 of the hash, 8 for the value + 1; 0 marks a free slot. */
const SLOT = 16;
/** Small, because lookups are spread over the whole file, bytes. */
const PAGE = 4096;
const SLOTS_A_PAGE = PAGE / SLOT;
/** At most this many pages are in memory: 32 MiB. */
const MAX_PAGES = 8192;
const MAX_LOAD = 0.7;
/** A lookup ends after this many slots. Only damage makes it so long. */
const MAX_PROBES = 1000;
/** The smallest number of slots. */
const START_SLOTS = 16 * SLOTS_A_PAGE;

/** The first 64 bits of a hash. */
interface Hash {
  high: number;
  low: number;
}

/**
 * A hash table in a file, from 64 bits of a hash to an offset. Memory does not grow with the table. A damaged table
 * returns wrong offsets, so the caller compares what it finds there.
 */
export class Slots {
  private readonly path: string;
  private file: number;
  private pages = new Map<number, { bytes: Buffer; dirty: boolean }>();
  private count: number;
  private used: number;

  private constructor(path: string, file: number, { count, used }: { count: number; used: number }) {
    this.path = path;
    this.file = file;
    this.count = count;
    this.used = used;
  }

  /** Opens a table. `used`: the number of its members. Returns undefined if the file has no whole table. */
  static open(path: string, used: number, flags: 'r' | 'r+'): Slots | undefined {
    const file = openSync(path, flags);
    const count = fstatSync(file).size / SLOT;
    const isWhole = count >= START_SLOTS && Number.isInteger(Math.log2(count)) && used < count * MAX_LOAD;
    if (isWhole) return new Slots(path, file, { count, used });
    closeSync(file);
    return undefined;
  }

  /** Creates an empty table, and replaces an earlier one. */
  static create(path: string, count = START_SLOTS): Slots {
    const file = openSync(path, 'w+', 0o600);
    ftruncateSync(file, count * SLOT);
    return new Slots(path, file, { count, used: 0 });
  }

  get size(): number {
    return this.used;
  }

  get({ high, low }: Hash): number | undefined {
    const { bytes, at } = this.find(high, low);
    const value = bytes.readDoubleLE(at + 8) - 1;
    return value >= 0 && Number.isSafeInteger(value) ? value : undefined;
  }

  /** Adds a member, or replaces its value. */
  set({ high, low }: Hash, value: number): void {
    if (this.used + 1 > this.count * MAX_LOAD) this.grow();
    const { page, bytes, at } = this.find(high, low);
    if (bytes.readDoubleLE(at + 8) === 0) this.used++;
    bytes.writeUInt32LE(high, at);
    bytes.writeUInt32LE(low, at + 4);
    bytes.writeDoubleLE(value + 1, at + 8);
    page.dirty = true;
  }

  /** Writes all changes to the disk. */
  flush(): void {
    for (const [number, page] of this.pages) this.write(number, page);
    fsyncSync(this.file);
  }

  close(): void {
    closeSync(this.file);
  }

  private find(high: number, low: number) {
    for (let slot = low % this.count, tried = 0; ; slot = (slot + 1) % this.count, tried++) {
      const page = this.page(Math.floor(slot / SLOTS_A_PAGE));
      const { bytes } = page;
      const at = (slot % SLOTS_A_PAGE) * SLOT;
      const isFree = bytes.readDoubleLE(at + 8) === 0;
      const isOwn = bytes.readUInt32LE(at) === high && bytes.readUInt32LE(at + 4) === low;
      if (isFree || isOwn || tried === MAX_PROBES) return { page, bytes, at };
    }
  }

  private page(number: number) {
    const known = this.pages.get(number);
    if (known) return known;
    if (this.pages.size >= MAX_PAGES) {
      const [oldest, page] = this.pages.entries().next().value as [number, { bytes: Buffer; dirty: boolean }];
      this.write(oldest, page);
      this.pages.delete(oldest);
    }
    const bytes = Buffer.alloc(PAGE);
    readSync(this.file, bytes, 0, PAGE, number * PAGE);
    const page = { bytes, dirty: false };
    this.pages.set(number, page);
    return page;
  }

  private write(number: number, page: { bytes: Buffer; dirty: boolean }): void {
    if (!page.dirty) return;
    writeSync(this.file, page.bytes, 0, PAGE, number * PAGE);
    page.dirty = false;
  }

  /** Doubles the table, in a new file that replaces the old one. */
  private grow(): void {
    this.flush();
    const next = Slots.create(`${this.path}.new`, this.count * 2);
    const page = Buffer.alloc(PAGE);
    for (let number = 0; number < this.count / SLOTS_A_PAGE; number++) {
      readSync(this.file, page, 0, PAGE, number * PAGE);
      for (let at = 0; at < PAGE; at += SLOT) {
        const value = page.readDoubleLE(at + 8);
        if (value > 0) next.set({ high: page.readUInt32LE(at), low: page.readUInt32LE(at + 4) }, value - 1);
      }
    }
    next.flush();
    renameSync(`${this.path}.new`, this.path);
    closeSync(this.file);
    this.pages = next.pages;
    this.file = next.file;
    this.count = next.count;
  }
}
