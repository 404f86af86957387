import { LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { PackReader } from './pack-reader.ts';
import type { PackRef } from './pack-stream.ts';
import { hasRoomFor } from './spool-room.ts';

/** Packs that are open at the same time, at most. A sealed one takes its whole size in the spool. */
const OPEN_PACKS = 16;

/**
 * Reads contents in any order, and keeps the packs open that were used last. Parts of a file whose content changed
 * often are in many packs, and each pack holds parts of neighbouring places.
 */
export class PackCache {
  private readonly options: { destination: Destination; keys: SealKeys; spool: string; signal?: AbortSignal };
  private readonly packs: ReadonlyMap<string, PackRef>;
  /** in order of last use, oldest first */
  private readonly open = new Map<string, PackReader>();

  constructor(
    packs: ReadonlyMap<string, PackRef>,
    options: { destination: Destination; keys: SealKeys; spool: string; signal?: AbortSignal },
  ) {
    this.packs = packs;
    this.options = options;
  }

  /**
   * Reads one content. The caller compares the bytes with the index.
   *
   * @throws OBJECT_DAMAGED for a pack that the manifest does not name; everything that {@link PackReader.open} throws
   */
  async read({ pack, entry, size }: { pack: string; entry: string; size: number }): Promise<Buffer> {
    const reader = this.open.get(pack) ?? (await this.fetch(pack));
    this.open.delete(pack);
    this.open.set(pack, reader);
    return reader.read(entry, size);
  }

  async close(): Promise<void> {
    while (this.open.size > 0) await this.closeOldest();
  }

  private async fetch(id: string): Promise<PackReader> {
    const pack = this.packs.get(id);
    if (!pack) {
      throw new LifeboatError('OBJECT_DAMAGED', `the index names a pack that the manifest does not: ${id}`);
    }
    const { spool, destination } = this.options;
    while (this.open.size > 0 && (this.open.size >= OPEN_PACKS || !(await hasRoomFor(spool, pack.plainSize)))) {
      await this.closeOldest();
    }
    return PackReader.open(destination, pack, this.options);
  }

  private async closeOldest(): Promise<void> {
    const [oldest] = this.open;
    if (!oldest) return;
    this.open.delete(oldest[0]);
    await oldest[1].close();
  }
}
