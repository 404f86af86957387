import type { ErrorInfo, LifeboatError } from '../base/errors.ts';
import type { ObjectInfo } from '../destinations/destination.ts';
import { Listing } from '../destinations/listing.ts';
import { plural } from '../report/format.ts';
import type { ObjectRef } from '../store/objects/manifest.ts';

const HASH_BYTES = 32;

/**
 * The objects that snapshots need, compared with a listing. An object takes about 100 bytes of memory: a repository may
 * have a million packs.
 */
export class NeededObjects {
  /** objects that are missing, or have the wrong size, by key */
  readonly damaged = new Map<string, ErrorInfo>();
  /** objects that exist but whose size could not be read, by key */
  readonly unsized = new Map<string, LifeboatError>();
  private readonly listing = new Listing();
  private readonly unread = new Map<string, LifeboatError>();
  /** the hash of each needed object of the listing, at its place there */
  private hashes = Buffer.alloc(0);
  /** 1 for each needed object of the listing, at its place there */
  private needed = new Uint8Array(0);
  private count = 0;
  private total = 0;

  /** Lists the objects below a prefix. */
  static async list(objects: AsyncIterable<ObjectInfo>): Promise<NeededObjects> {
    const all = new NeededObjects();
    for await (const object of objects) {
      all.listing.add(object);
      if (object.unread) all.unread.set(object.key, object.unread);
    }
    all.hashes = Buffer.alloc(all.listing.size * HASH_BYTES);
    all.needed = new Uint8Array(all.listing.size);
    return all;
  }

  /** Number of the needed objects, missing ones included. */
  get size(): number {
    return this.count;
  }

  /** Size of the needed objects, bytes. */
  get bytes(): number {
    return this.total;
  }

  /** Adds an object that a snapshot needs. Several snapshots can need the same object. */
  add({ key, size, sha256 }: ObjectRef): void {
    const found = this.listing.find(key);
    if (found ? this.needed[found.index] === 1 : this.damaged.has(key)) {
      this.compare(key, size, found?.size);
      return;
    }
    this.count++;
    this.total += size;
    if (!found) {
      this.damaged.set(key, { code: 'OBJECT_MISSING', message: `${key} is not in the repository` });
      return;
    }
    this.needed[found.index] = 1;
    this.hashes.write(sha256, found.index * HASH_BYTES, 'hex');
    const unread = this.unread.get(key);
    if (unread) this.unsized.set(key, unread);
    this.compare(key, size, found.size);
  }

  /** Yields the needed objects that are there, with their sizes as listed, in the order of their keys. */
  *present(): Generator<ObjectRef> {
    let index = 0;
    for (const { key, size = 0 } of this.listing.below('')) {
      const at = index++;
      if (this.needed[at] !== 1) continue;
      yield { key, size, sha256: this.hashes.toString('hex', at * HASH_BYTES, (at + 1) * HASH_BYTES) };
    }
  }

  /** Returns the keys of all needed objects. */
  keys(): string[] {
    const missing = [...this.damaged].filter(([, { code }]) => code === 'OBJECT_MISSING').map(([key]) => key);
    return [...[...this.present()].map(({ key }) => key), ...missing];
  }

  private compare(key: string, wanted: number, size: number | undefined): void {
    if (size === undefined || size === wanted) return;
    this.damaged.set(key, {
      code: 'OBJECT_DAMAGED',
      message: `${key} has ${plural(size, 'byte')} instead of ${wanted}`,
    });
  }
}
