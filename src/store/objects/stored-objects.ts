import type { ObjectInfo } from '../../destinations/destination.ts';
import { Listing } from '../../destinations/listing.ts';

/**
 * The objects that a repository has, with their sizes. An object of the listing takes about 60 bytes of memory, one
 * that was added since about 200. Looking up keys in ascending order, as in a list of packs, reads the listing once.
 */
export class StoredObjects {
  private readonly listing = new Listing();
  private readonly added = new Map<string, number>();

  /** Adds the next object of the listing. */
  addListed(object: ObjectInfo): void {
    this.listing.add(object);
  }

  /** Records that an object was stored, with its size in bytes. */
  set(key: string, size: number): void {
    this.added.set(key, size);
  }

  /** Returns the size of an object, bytes. Undefined if there is none. */
  get(key: string): number | undefined {
    return this.added.get(key) ?? this.listing.find(key)?.size;
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  *keys(): Generator<string> {
    for (const { key } of this.listing.below('')) yield key;
    for (const key of this.added.keys()) if (!this.listing.find(key)) yield key;
  }
}
