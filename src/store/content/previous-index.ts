import { errorInfo } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import { plural } from '../../report/format.ts';
import { type IndexEntry, readIndexFile } from '../filesystem/index-file.ts';
import { comparePaths, type TreePath } from '../filesystem/path.ts';
import type { PackRef } from '../packs/pack-stream.ts';

/** Returns the warning for packs of the last snapshot that cannot be reused. */
export function lostPacksText(lost: number): string {
  return `missing, cut or not readable: ${plural(lost, 'pack')} of the last snapshot; their content is stored again`;
}

/**
 * Reads the index of the last snapshot alongside a walk. If it is missing or damaged, the backup takes longer but stays
 * correct: the rest of the index is ignored.
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

  /**
   * Opens the index. Lists the destination, and reuses only those previous packs that are there with their full size.
   *
   * @param previous `listed`: the caller has listed the destination, and `packs` are those that are there
   */
  static async open(
    previous: { indexPath: string; packs: readonly PackRef[]; listed?: boolean } | undefined,
    destination: Destination,
    prefix: string,
  ): Promise<PreviousIndex> {
    if (!previous) return new PreviousIndex(undefined, new Map());
    const byKey = new Map(previous.packs.map((pack) => [pack.key, pack]));
    const available = new Map<string, PackRef>();
    if (previous.listed) for (const pack of previous.packs) available.set(pack.id, pack);
    for await (const { key, size } of previous.listed ? [] : destination.list(prefix)) {
      const pack = byKey.get(key);
      if (pack && pack.size === size) available.set(pack.id, pack);
    }
    const opened = new PreviousIndex(previous.indexPath, available);
    const lost = previous.packs.length - available.size;
    if (lost > 0) opened.warnings.push(lostPacksText(lost));
    return opened;
  }

  /** The path of the plain index file; undefined once the index is distrusted. */
  get path(): string | undefined {
    return this.file;
  }

  /** Returns the previous entry of a path. Successive calls must pass paths in order. */
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

  /** Returns whether a pack of the previous snapshot can be reused. */
  usable(pack: string): boolean {
    return this.available.has(pack);
  }

  /** Returns those packs of the previous snapshot whose IDs are in `ids`. */
  packs(ids: ReadonlySet<string>): PackRef[] {
    return [...this.available.values()].filter((pack) => ids.has(pack.id));
  }

  /**
   * Ignores the rest of the index, and adds a warning. Entries read so far stay valid: each line was checked by itself.
   */
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
