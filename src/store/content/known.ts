import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { DataRanges } from '../filesystem/data-ranges.ts';
import { decodeIndexEntry, type IndexEntry, readLines } from '../filesystem/index-file.ts';

/** The place of stored content. */
export interface Placed {
  pack: string;
  entry: string;
}

/** Content that may be stored already. */
export interface Wanted {
  sha256: string;
  /** size of the file, bytes */
  size: number;
  /** only if the file has holes */
  ranges?: DataRanges;
}

/** Access to single lines of an index file. */
export interface IndexLines {
  /** Returns the line that starts at `offset`, without its line feed; undefined if there is none. */
  lineAt(offset: number): Promise<Buffer | undefined>;
}

const START_SLOTS = 1024;
const MAX_LOAD = 0.7;

/**
 * A hash table from content (SHA-256) to the offset of an index line with that content. A slot takes 16 bytes, and a
 * million contents take about 32 MiB. Only 64 bits of each hash are stored, so a hit must be checked against the line
 * itself.
 */
export class HashTable {
  private high = new Uint32Array(START_SLOTS);
  private low = new Uint32Array(START_SLOTS);
  /** 0 for a free slot, otherwise the value + 1 */
  private values = new Float64Array(START_SLOTS);
  private count = 0;

  /** Adds content that is not in the table yet. `value` is an integer from 0. */
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

/** Reads single lines of an index file on disk. */
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
 * Finds content that is stored already, in the previous index and in the one being written. Content of a file that has
 * only moved is found here, and not stored again.
 */
export class KnownContents {
  /** even values are offsets in the previous index, odd values in the current one; both are doubled */
  private readonly table = new HashTable();
  private readonly sizes = new Set<number>();
  private readonly current: IndexLines;
  private readonly usable: (pack: string) => boolean;
  private readonly largeSize: number;
  private previous: IndexLineFile | undefined;

  /**
   * @param current the index being written
   * @param usable returns whether a pack, given by ID, is complete and at the destination
   * @param largeSize sizes of larger files are remembered too, bytes
   */
  constructor(current: IndexLines, usable: (pack: string) => boolean, largeSize: number) {
    this.current = current;
    this.usable = usable;
    this.largeSize = largeSize;
  }

  /** Reads the previous index once, without parsing its lines. */
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

  /** Returns false if no known content has that size. Valid only for sizes above `largeSize`. */
  mayHaveSize(size: number): boolean {
    return this.sizes.has(size);
  }

  /** Returns where content is stored, checked against its index line. */
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

// Inside a JSON string the quotes would be escaped, so these bytes can only be keys.
const SHA_KEY = Buffer.from('"sha256":"');
const SIZE_KEY = Buffer.from('"size":');

/** Returns the `length` bytes of text after a key in an index line, without parsing the line. */
export function valueAfter(line: Buffer, key: Buffer, length: number): string | undefined {
  const at = line.indexOf(key);
  return at < 0 ? undefined : line.toString('latin1', at + key.length, at + key.length + length);
}
