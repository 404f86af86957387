import { errorInfo } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import { plural } from '../../report/format.ts';
import { type IndexEntry, readIndexFile } from '../filesystem/index-file.ts';
import { comparePaths, type TreePath } from '../filesystem/path.ts';
import type { PackRef } from '../packs/pack-stream.ts';

/**
 * The index of the last snapshot, read alongside a walk. A previous index that is missing or damaged costs time, not
 * correctness: from there on nothing of it is used.
 */
export class PreviousIndex {
  readonly warnings: string[] = [];
  private readonly available: ReadonlyMap<string, PackRef>;
  private file: string | undefined;
  private entries: AsyncGenerator<IndexEntry> | undefined;
  private next: IndexEntry | undefined;

  private constructor(file: string | undefined, available: ReadonlyMap<string, PackRef>) {
    this.file = file;
    this.available = available;
    if (file !== undefined) this.entries = readIndexFile(file);
  }

  /** Looks which of the previous packs are at the destination, whole by their size: only those are used again. */
  static async open(
    previous: { indexPath: string; packs: readonly PackRef[] } | undefined,
    destination: Destination,
    prefix: string,
  ): Promise<PreviousIndex> {
    if (!previous) return new PreviousIndex(undefined, new Map());
    const byKey = new Map(previous.packs.map((pack) => [pack.key, pack]));
    const available = new Map<string, PackRef>();
    for await (const { key, size } of destination.list(prefix)) {
      const pack = byKey.get(key);
      if (pack && pack.size === size) available.set(pack.id, pack);
    }
    const opened = new PreviousIndex(previous.indexPath, available);
    const lost = previous.packs.length - available.size;
    if (lost > 0)
      opened.warnings.push(
        `missing, cut or not readable: ${plural(lost, 'pack')} of the last snapshot; what is in there is stored again`,
      );
    return opened;
  }

  /** The plain index file, while it can be trusted. */
  get path(): string | undefined {
    return this.file;
  }

  /** The previous entry of that path. Paths must be asked for in order. */
  async at(path: TreePath): Promise<IndexEntry | undefined> {
    for (;;) {
      if (!this.next) {
        if (!this.entries) return undefined;
        await this.advance(this.entries);
        continue;
      }
      const order = comparePaths(this.next.path, path);
      if (order > 0) return undefined;
      const found = this.next;
      this.next = undefined;
      if (order === 0) return found;
    }
  }

  /** True for a pack of the previous snapshot that is there to be used again. */
  usable(pack: string): boolean {
    return this.available.has(pack);
  }

  /** The packs among `ids` that are of the previous snapshot. */
  packs(ids: ReadonlySet<string>): PackRef[] {
    return [...this.available.values()].filter((pack) => ids.has(pack.id));
  }

  /** Gives up on the index. What was taken from it so far stays good: each line was checked by itself. */
  distrust(error: unknown): void {
    this.warnings.push(`the last index could not be used: ${errorInfo(error).message}`);
    this.file = undefined;
    this.entries = undefined;
    this.next = undefined;
  }

  async close(): Promise<void> {
    await this.entries?.return(undefined);
  }

  private async advance(entries: AsyncGenerator<IndexEntry>): Promise<void> {
    try {
      const { value, done } = await entries.next();
      if (done) this.entries = undefined;
      else this.next = value;
    } catch (error) {
      this.distrust(error);
    }
  }
}
