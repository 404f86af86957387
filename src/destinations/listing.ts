import type { ObjectInfo } from './destination.ts';
import { compareKeys, isPackKey } from './keys.ts';

/** The size of a block of entries, bytes. A lookup reads half a block on average. */
const BLOCK_BYTES = 8 * 1024;
/** The bytes of an entry before its key and version: their lengths, and the size of the object. */
const HEAD_BYTES = 14;
/** Marks an object whose size is unknown: see {@link Listing.odd}. */
const UNKNOWN = -1;

/** Entries in a row. A key is stored without the beginning that it shares with the key before it. */
interface Block {
  bytes: Buffer;
  used: number;
  /** the key of the first entry */
  first: Buffer;
  /** number of the entries in earlier blocks */
  before: number;
}

/** The place of an object in a listing. */
interface Found {
  /** number of the objects before it */
  index: number;
  /** bytes; undefined if the object cannot be inspected */
  size: number | undefined;
}

/**
 * The objects of a listing, in their order. An entry takes about 60 bytes instead of the 250 of an object, because a
 * repository may have a million packs. Packs have no version here: nobody asks for it.
 */
export class Listing {
  private blocks: Block[] = [];
  private count = 0;
  private last: Buffer = Buffer.alloc(0);
  private isOrdered = true;
  private lastKey = '';
  /** objects that exist but cannot be inspected, by key */
  private odd = new Map<string, ObjectInfo>();
  /** where the last lookup ended */
  private reader: BlockReader | undefined;

  get size(): number {
    return this.count;
  }

  add(object: ObjectInfo): void {
    const { key, size = UNKNOWN } = object;
    if (size === UNKNOWN) this.odd.set(key, object);
    const bytes = Buffer.from(key);
    const version = Buffer.from((isPackKey(key) ? undefined : object.version) ?? '');
    let block = this.blocks.at(-1);
    const most = HEAD_BYTES + bytes.length + version.length;
    const isNew = !block || block.used + most > block.bytes.length;
    if (!block || isNew) {
      const room = Buffer.allocUnsafeSlow(Math.max(BLOCK_BYTES, most));
      block = { bytes: room, used: 0, first: bytes, before: this.count };
      this.blocks.push(block);
    }
    const shared = isNew ? 0 : sharedStart(this.last, bytes);
    const to = block.bytes;
    let at = block.used;
    at = to.writeUInt16LE(shared, at);
    at = to.writeUInt16LE(bytes.length - shared, at);
    at = to.writeUInt16LE(version.length, at);
    at = to.writeDoubleLE(size, at);
    at += bytes.copy(to, at, shared);
    block.used = at + version.copy(to, at);
    if (this.count > 0 && compareKeys(this.lastKey, key) > 0) this.isOrdered = false;
    this.last = bytes;
    this.lastKey = key;
    this.count++;
    this.reader = undefined;
  }

  clear(): void {
    this.blocks = [];
    this.count = 0;
    this.isOrdered = true;
    this.odd.clear();
    this.reader = undefined;
  }

  /** Looks an object up. To look up keys in ascending order takes about as long as to read the listing once. */
  find(key: string): Found | undefined {
    const wanted = Buffer.from(key);
    this.sort();
    const block = this.blockOf(wanted);
    if (!block) return undefined;
    if (this.reader?.block !== block || this.reader.compare(wanted) > 0) this.reader = new BlockReader(block);
    while (this.reader.compare(wanted) < 0) if (!this.reader.advance()) return undefined;
    return this.reader.compare(wanted) === 0 ? this.reader.found : undefined;
  }

  /** Yields the objects whose keys begin with `prefix`. */
  *below(prefix: string): Generator<ObjectInfo> {
    this.sort();
    const start = Buffer.from(prefix);
    for (const [i, block] of this.blocks.entries()) {
      const next = this.blocks[i + 1];
      // All keys of this block are before the prefix.
      if (next && next.first.compare(start) < 0) continue;
      const begins = block.first.subarray(0, start.length).equals(start);
      if (block.first.compare(start) > 0 && !begins) return;
      for (const reader = new BlockReader(block); ; ) {
        const { object } = reader;
        if (object.key.startsWith(prefix)) yield this.odd.get(object.key) ?? object;
        if (!reader.advance()) break;
      }
    }
  }

  /** Returns the block that has a key if the listing has it: the last one that does not begin after the key. */
  private blockOf(wanted: Buffer): Block | undefined {
    let [from, to] = [0, this.blocks.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.blocks[middle] as Block).first.compare(wanted) <= 0) from = middle + 1;
      else to = middle;
    }
    return this.blocks[from - 1];
  }

  /** Brings the objects into the order of their keys, once, if the server has listed them in another one. */
  private sort(): void {
    if (this.isOrdered) return;
    const { blocks } = this;
    const odd = new Map(this.odd);
    const all: ObjectInfo[] = [];
    for (const block of blocks) {
      const reader = new BlockReader(block);
      do all.push(reader.object);
      while (reader.advance());
    }
    all.sort((a, b) => compareKeys(a.key, b.key));
    this.clear();
    for (const object of all) this.add(odd.get(object.key) ?? object);
  }
}

/** Reads the entries of a block one after the other. */
class BlockReader {
  readonly block: Block;
  private key = Buffer.alloc(0);
  private length = 0;
  private size = 0;
  private version = '';
  private index: number;
  private next = 0;

  constructor(block: Block) {
    this.block = block;
    this.index = block.before - 1;
    this.advance();
  }

  /** Goes on to the next entry. Returns false at the end. */
  advance(): boolean {
    const { bytes, used } = this.block;
    if (this.next >= used) return false;
    const shared = bytes.readUInt16LE(this.next);
    const rest = bytes.readUInt16LE(this.next + 2);
    const keyAt = this.next + HEAD_BYTES;
    const versionAt = keyAt + rest;
    this.next = versionAt + bytes.readUInt16LE(this.next + 4);
    this.size = bytes.readDoubleLE(keyAt - 8);
    this.version = versionAt === this.next ? '' : bytes.toString('utf8', versionAt, this.next);
    this.length = shared + rest;
    if (this.key.length < this.length) {
      const grown = Buffer.alloc(2 * this.length);
      this.key.copy(grown);
      this.key = grown;
    }
    bytes.copy(this.key, shared, keyAt, versionAt);
    this.index++;
    return true;
  }

  /** Compares the key of the entry with another one, see {@link compareKeys}. */
  compare(key: Buffer): number {
    return this.key.compare(key, 0, key.length, 0, this.length);
  }

  get found(): Found {
    return { index: this.index, size: this.size === UNKNOWN ? undefined : this.size };
  }

  get object(): ObjectInfo {
    const { size, version } = this;
    return { key: this.key.toString('utf8', 0, this.length), size, ...(version === '' ? {} : { version }) };
  }
}

/** Returns how many bytes two keys have in common at their beginning. */
function sharedStart(a: Buffer, b: Buffer): number {
  const most = Math.min(a.length, b.length);
  let i = 0;
  while (i < most && a[i] === b[i]) i++;
  return i;
}
