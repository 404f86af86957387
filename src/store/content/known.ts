import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { DataRanges } from '../filesystem/data-ranges.ts';
import { decodeIndexEntry, type IndexEntry, readLines } from '../filesystem/index-file.ts';

/** Where a content is stored. */
export interface Placed {
  pack: string;
  entry: string;
}

/** A content that may be stored already. */
export interface Wanted {
  sha256: string;
  /** bytes of the file */
  size: number;
  /** only where it has holes */
  ranges?: DataRanges;
}

/** One of the two index files that the table points into. */
export interface IndexLines {
  /** The line that starts at `offset`, without its line feed, or undefined when there is none. */
  lineAt(offset: number): Promise<Buffer | undefined>;
}

const START_SLOTS = 1024;
const MAX_LOAD = 0.7;

/**
 * A hash table from content (SHA-256) to the place of an index line that names it: 16 bytes a slot, so that a million
 * contents take some 32 MiB. Only 64 bits of the hash are kept: a hit is a hint, to be checked against the line itself.
 */
export class HashTable {
  private high = new Uint32Array(START_SLOTS);
  private low = new Uint32Array(START_SLOTS);
  /** 0 for a free slot, else the value + 1 */
  private values = new Float64Array(START_SLOTS);
  private count = 0;

  /** Adds a content unless it is there already. `value` is a whole number from 0. */
  set(sha256: string, value: number): void {
    if (this.count >= this.values.length * MAX_LOAD) this.grow();
    const [high, low] = halves(sha256);
    const slot = this.find(high, low);
    if (this.values[slot] !== 0) return;
    this.put(slot, high, low, value + 1);
    this.count++;
  }

  get(sha256: string): number | undefined {
    const [high, low] = halves(sha256);
    const value = this.values[this.find(high, low)]!;
    return value === 0 ? undefined : value - 1;
  }

  get size(): number {
    return this.count;
  }

  private find(high: number, low: number): number {
    const mask = this.values.length - 1;
    let slot = low & mask;
    while (this.values[slot] !== 0 && (this.high[slot] !== high || this.low[slot] !== low)) slot = (slot + 1) & mask;
    return slot;
  }

  private put(slot: number, high: number, low: number, stored: number): void {
    this.high[slot] = high;
    this.low[slot] = low;
    this.values[slot] = stored;
  }

  private grow(): void {
    const { high, low, values } = this;
    const slots = values.length * 2;
    this.high = new Uint32Array(slots);
    this.low = new Uint32Array(slots);
    this.values = new Float64Array(slots);
    for (let i = 0; i < values.length; i++) {
      if (values[i] !== 0) this.put(this.find(high[i]!, low[i]!), high[i]!, low[i]!, values[i]!);
    }
  }
}

function halves(sha256: string): [number, number] {
  return [Number.parseInt(sha256.slice(0, 8), 16), Number.parseInt(sha256.slice(8, 16), 16)];
}

/** An index file on disk, for single lines. */
class IndexLineFile implements IndexLines {
  private readonly handle: FileHandle;

  private constructor(handle: FileHandle) {
    this.handle = handle;
  }

  static async open(path: string): Promise<IndexLineFile> {
    return new IndexLineFile(await open(path, 'r'));
  }

  async lineAt(offset: number): Promise<Buffer | undefined> {
    for (let length = 1024; length <= 128 * 1024; length *= 8) {
      const buffer = Buffer.allocUnsafe(length);
      const { bytesRead } = await this.handle.read(buffer, 0, length, offset);
      const end = buffer.subarray(0, bytesRead).indexOf(10);
      if (end >= 0) return buffer.subarray(0, end);
      if (bytesRead < length) return undefined;
    }
    return undefined;
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}

/**
 * What is stored already: the contents of the previous index and of the one being written. A content that only moved is
 * found here and not stored again.
 */
export class KnownContents {
  /** even values are offsets in the previous index, odd ones in the current one */
  private readonly table = new HashTable();
  private readonly sizes = new Set<number>();
  private readonly current: IndexLines;
  private readonly usable: (pack: string) => boolean;
  private readonly largeSize: number;
  private previous: IndexLineFile | undefined;

  /**
   * @param current the index being written
   * @param usable whether the pack of that id is whole and at the destination
   * @param largeSize files above this many bytes also have their sizes remembered
   */
  constructor(current: IndexLines, usable: (pack: string) => boolean, largeSize: number) {
    this.current = current;
    this.usable = usable;
    this.largeSize = largeSize;
  }

  /** Reads the previous index once, without taking its lines apart. */
  async loadPrevious(path: string): Promise<void> {
    this.previous = await IndexLineFile.open(path);
    let offset = 0;
    for await (const line of readLines(createReadStream(path, { highWaterMark: 256 * 1024 }))) {
      const at = offset;
      offset += line.length + 1;
      const sha256 = valueAfter(line, SHA_KEY, 64);
      if (sha256?.length !== 64) continue;
      const size = Number.parseInt(valueAfter(line, SIZE_KEY, 16) ?? '0', 10);
      if (size > 0) this.remember(sha256, size, at * 2);
    }
  }

  /** Adds a line of the current index. */
  add(entry: IndexEntry, offset: number): void {
    if (entry.sha256 && entry.pack) this.remember(entry.sha256, entry.size ?? 0, offset * 2 + 1);
  }

  /** False when no known content can have that size; only for files above the large size. */
  mayHaveSize(size: number): boolean {
    return this.sizes.has(size);
  }

  /** Where that content is stored, checked against the line that says so. */
  async find({ sha256, size, ranges }: Wanted): Promise<Placed | undefined> {
    const value = this.table.get(sha256);
    if (value === undefined) return undefined;
    const lines = value % 2 === 1 ? this.current : this.previous;
    const line = await lines?.lineAt(Math.floor(value / 2));
    if (!line) return undefined;
    const entry = decodeIndexEntry(line);
    if (entry.sha256 !== sha256 || entry.size !== size || !entry.pack || !entry.entry) return undefined;
    if (String(entry.ranges) !== String(ranges)) return undefined;
    return this.usable(entry.pack) ? { pack: entry.pack, entry: entry.entry } : undefined;
  }

  async close(): Promise<void> {
    await this.previous?.close();
  }

  private remember(sha256: string, size: number, value: number): void {
    this.table.set(sha256, value);
    if (size > this.largeSize) this.sizes.add(size);
  }
}

// Inside a JSON string the quotes would carry a backslash, so that these can only be keys.
const SHA_KEY = Buffer.from('"sha256":"');
const SIZE_KEY = Buffer.from('"size":');

/** The text of `length` bytes that follows a key in a line of an index, without taking the line apart. */
export function valueAfter(line: Buffer, key: Buffer, length: number): string | undefined {
  const at = line.indexOf(key);
  return at < 0 ? undefined : line.toString('latin1', at + key.length, at + key.length + length);
}
