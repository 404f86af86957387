import { LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { isPlain } from '../seal/seal.ts';
import { PackReader } from './pack-reader.ts';
import type { PackRef } from './pack-stream.ts';
import { hasRoomFor } from './spool-room.ts';

/** Packs that are open at the same time, at most: each may take a file descriptor, of which a process has 1,024. */
const OPEN_PACKS = 512;
/** So many packs keep what they have read, up to 12 MiB each. */
const WITH_BLOCKS = 16;

/**
 * Reads contents in any order, and keeps the packs open that were used last. Parts of a file whose content changed
 * often are in many packs, and each pack holds parts of neighbouring places. A sealed pack takes its whole size in the
 * spool, so all of them take at most half of the room there: a run may need the rest meanwhile.
 */
export class PackCache {
  private readonly options: { destination: Destination; keys: SealKeys; spool: string; signal?: AbortSignal };
  private readonly packs: ReadonlyMap<string, PackRef>;
  /** in order of last use, oldest first */
  private readonly open = new Map<string, PackReader>();
  /** the same, those that keep what they have read */
  private readonly withBlocks = new Set<PackReader>();
  /** bytes of the open packs in the spool */
  private spooled = 0;

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
    this.withBlocks.delete(reader);
    this.withBlocks.add(reader);
    const [oldest] = this.withBlocks;
    if (oldest && this.withBlocks.size > WITH_BLOCKS) {
      oldest.forget();
      this.withBlocks.delete(oldest);
    }
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
    const taken = spooledSize(pack);
    const isRoom = async () => taken === 0 || hasRoomFor(spool, taken + this.spooled);
    while (this.open.size > 0 && (this.open.size >= OPEN_PACKS || !(await isRoom()))) await this.closeOldest();
    const reader = await PackReader.open(destination, pack, this.options);
    this.spooled += taken;
    return reader;
  }

  private async closeOldest(): Promise<void> {
    const [oldest] = this.open;
    if (!oldest) return;
    this.open.delete(oldest[0]);
    const pack = this.packs.get(oldest[0]);
    if (pack) this.spooled -= spooledSize(pack);
    this.withBlocks.delete(oldest[1]);
    await oldest[1].close();
  }
}

/** Returns how much of the spool an open pack takes, bytes. */
function spooledSize({ key, plainSize }: PackRef): number {
  return isPlain(key) ? 0 : plainSize;
}
