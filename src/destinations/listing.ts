import type { ObjectInfo } from './destination.ts';
import { compareKeys, isPackKey } from './keys.ts';

/** The size of a block of entries, bytes. */
const BLOCK_BYTES = 64 * 1024;
/** The bytes of an entry before its key and version: their lengths, and the size of the object. */
const HEAD_BYTES = 14;
/** Marks an object whose size is unknown: see {@link Listing.odd}. */
const UNKNOWN = -1;

/** Entries in a row. A key is stored without the beginning that it shares with the key before it. */
interface Block {
  bytes: Buffer;
  used: number;
  first: string;
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
      block = { bytes: Buffer.allocUnsafeSlow(Math.max(BLOCK_BYTES, most)), used: 0, first: key };
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
  }

  clear(): void {
    this.blocks = [];
    this.count = 0;
    this.isOrdered = true;
    this.odd.clear();
  }

  /** Yields the objects whose keys begin with `prefix`. */
  *below(prefix: string): Generator<ObjectInfo> {
    for (const [i, block] of this.blocks.entries()) {
      const next = this.blocks[i + 1];
      // All keys of this block are before the prefix.
      if (this.isOrdered && next && compareKeys(next.first, prefix) < 0) continue;
      if (this.isOrdered && compareKeys(block.first, prefix) > 0 && !block.first.startsWith(prefix)) return;
      for (const object of entriesOf(block))
        if (object.key.startsWith(prefix)) yield this.odd.get(object.key) ?? object;
    }
  }
}

function* entriesOf({ bytes, used }: Block): Generator<ObjectInfo> {
  let before = Buffer.alloc(0);
  for (let at = 0; at < used; ) {
    const shared = bytes.readUInt16LE(at);
    const rest = bytes.readUInt16LE(at + 2);
    const versionLength = bytes.readUInt16LE(at + 4);
    const size = bytes.readDoubleLE(at + 6);
    const keyAt = at + HEAD_BYTES;
    const key = Buffer.allocUnsafe(shared + rest);
    before.copy(key, 0, 0, shared);
    bytes.copy(key, shared, keyAt, keyAt + rest);
    at = keyAt + rest + versionLength;
    const version = versionLength > 0 ? { version: bytes.toString('utf8', keyAt + rest, at) } : {};
    before = key;
    yield { key: key.toString(), size, ...version };
  }
}

/** Returns how many bytes two keys have in common at their beginning. */
function sharedStart(a: Buffer, b: Buffer): number {
  const most = Math.min(a.length, b.length);
  let i = 0;
  while (i < most && a[i] === b[i]) i++;
  return i;
}
