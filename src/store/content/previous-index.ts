import { errorInfo, LifeboatError } from '../../base/errors.ts';
import { plural } from '../../report/format.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { comparePaths, type TreePath } from '../filesystem/path.ts';
import { type IndexLine, readIndexFileLines } from '../filesystem/read-index.ts';
import { ContentTable } from '../known/content-table.ts';
import { KnownPacks } from '../known/known-packs.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import type { Content, PartLines } from './known.ts';
import type { KnownContentsRef, StoreTreeOptions } from './stored-tree.ts';

/** The previous entry of a path. */
export interface PreviousEntry {
  entry: IndexEntry;
  /** whether all packs with its content can be reused */
  usable: boolean;
  /** the lines of its parts */
  parts?: PartLines;
}

/** Returns the content of a previous entry, whether its packs can be reused or not; undefined if it has none. */
export function contentOf({ entry, parts }: PreviousEntry): Content | undefined {
  const { size, sha256, ranges, pack, entry: name, sqlite } = entry;
  if (size === undefined || sha256 === undefined) return undefined;
  const placed = pack === undefined || name === undefined ? {} : { pack, entry: name };
  const state = sqlite === undefined ? {} : { sqlite };
  return { size, sha256, ...(ranges && { ranges }), ...state, ...placed, ...(parts && { parts }) };
}

/** The contents of other kept snapshots. */
interface More extends Pick<KnownContentsRef, 'without' | 'coversPrevious'> {
  packs: KnownPacks;
  table: ContentTable;
}

/**
 * Opens the contents of all kept snapshots. Undefined if they cannot be opened: then more is stored again. Adds a
 * warning that says why.
 */
async function openKnown(
  { table: directory, of, packs, ...rest }: KnownContentsRef,
  warnings: string[],
): Promise<More | undefined> {
  let table: ContentTable | undefined;
  try {
    table = ContentTable.read(directory, of);
    if (!table) throw new Error('the table in the spool is not complete');
    return { ...rest, table, packs: await KnownPacks.open(packs) };
  } catch (error) {
    await table?.close();
    const why = errorInfo(error).message;
    warnings.push(`the contents of earlier snapshots are not known, so some may be stored again: ${why}`);
    return undefined;
  }
}

/** Returns the warning for packs of the last snapshot that cannot be reused. */
export function lostPacksText(lost: number): string {
  return `missing, cut or not readable: ${plural(lost, 'pack')} of the last snapshot; their content is stored again`;
}

/**
 * Reads the index of the last snapshot alongside a walk. If it is missing or damaged, the backup takes longer but stays
 * correct: the rest of the index is ignored.
 */
export class PreviousIndex {
  readonly warnings: string[];
  private readonly available: ReadonlyMap<string, PackRef>;
  private readonly known: KnownPacks | undefined;
  private readonly without: ReadonlySet<string>;
  /** the contents of all kept snapshots */
  readonly table: ContentTable | undefined;
  /** true if `table` has all contents of the previous index */
  readonly isCovered: boolean;
  private file: string | undefined;
  private lines: AsyncGenerator<IndexLine> | undefined;
  private readonly position = { end: 0 };
  private next: PreviousEntry | undefined;

  private constructor(
    file: string | undefined,
    available: ReadonlyMap<string, PackRef>,
    { warnings, more }: { warnings: string[]; more: More | undefined },
  ) {
    this.warnings = warnings;
    this.file = file;
    this.available = available;
    this.known = more?.packs;
    this.table = more?.table;
    this.without = new Set(more?.without);
    this.isCovered = more?.coversPrevious ?? false;
    if (file !== undefined) this.lines = readIndexFileLines(file, this.position);
  }

  /**
   * Opens the index. Lists the destination, and reuses only those previous packs that are there with their full size.
   *
   * @param options `previous.listed`: the caller has listed the destination, and `packs` are those that are there
   */
  static async open(
    { previous, known, destination }: Pick<StoreTreeOptions, 'previous' | 'known' | 'destination'>,
    prefix: string,
  ): Promise<PreviousIndex> {
    const warnings: string[] = [];
    const more = known && (await openKnown(known, warnings));
    if (!previous) return new PreviousIndex(undefined, new Map(), { warnings, more });
    const byKey = new Map(previous.packs.map((pack) => [pack.key, pack]));
    const available = new Map<string, PackRef>();
    if (previous.listed) for (const pack of previous.packs) available.set(pack.id, pack);
    try {
      for await (const { key, size } of previous.listed ? [] : destination.list(prefix)) {
        const pack = byKey.get(key);
        if (pack && pack.size === size) available.set(pack.id, pack);
      }
    } catch (error) {
      await more?.table.close();
      throw error;
    }
    const lost = previous.packs.length - available.size;
    if (lost > 0) warnings.push(lostPacksText(lost));
    return new PreviousIndex(previous.indexPath, available, { warnings, more });
  }

  /** The path of the plain index file; undefined once the index is distrusted. */
  get path(): string | undefined {
    return this.file;
  }

  /** Returns the previous entry of a path. Successive calls must pass paths in order. */
  async at(path: TreePath): Promise<PreviousEntry | undefined> {
    for (;;) {
      if (!this.next) {
        if (!this.lines) return undefined;
        await this.advance(this.lines);
        continue;
      }
      const order = comparePaths(this.next.entry.path, path);
      if (order > 0) return undefined;
      const found = this.next;
      this.next = undefined;
      if (order === 0) return found;
    }
  }

  /** Returns whether a pack of the previous snapshot, or of another kept one, can be reused. */
  usable(pack: string): boolean {
    return this.available.has(pack) || (this.known !== undefined && !this.without.has(pack) && this.known.has(pack));
  }

  /**
   * Returns the packs whose IDs are in `ids`: of kept snapshots, or of `stored`.
   *
   * @throws INTERNAL if one is missing, because the index must name no pack that its list does not
   */
  async packs(ids: ReadonlySet<string>, stored: readonly PackRef[]): Promise<PackRef[]> {
    const own = [...this.available.values(), ...stored].filter((pack) => ids.has(pack.id));
    const there = new Set(own.map(({ id }) => id));
    const rest = new Set([...ids].filter((id) => !there.has(id)));
    const others = rest.size > 0 ? ((await this.known?.refs(rest)) ?? []) : [];
    if (others.length < rest.size) throw new LifeboatError('INTERNAL', 'the index names a pack that is not known');
    return [...own, ...others];
  }

  /**
   * Ignores the rest of the index, and adds a warning. Entries read so far stay valid: each line was checked by itself.
   */
  distrust(error: unknown): void {
    this.warnings.push(`the last index could not be used: ${errorInfo(error).message}`);
    this.file = undefined;
    this.lines = undefined;
    this.next = undefined;
  }

  async close(): Promise<void> {
    await this.lines?.return(undefined);
    await this.table?.close();
  }

  private async advance(lines: AsyncGenerator<IndexLine>): Promise<void> {
    try {
      const { value, done } = await lines.next();
      if (done) this.lines = undefined;
      else if (value.type !== 'part') this.next = await this.withParts(value, lines);
    } catch (error) {
      this.distrust(error);
    }
  }

  /** Reads the lines of the parts of an entry, but remembers only where they are. */
  private async withParts(entry: IndexEntry, lines: AsyncGenerator<IndexLine>): Promise<PreviousEntry> {
    const { pack, parts: count } = entry;
    if (count === undefined || this.file === undefined) return { entry, usable: !pack || this.usable(pack) };
    const from = this.position.end;
    let usable = true;
    for (let i = 0; i < count; i++) {
      const { value } = await lines.next();
      usable &&= value?.type === 'part' && this.usable(value.pack);
    }
    return { entry, usable, parts: { file: this.file, from, to: this.position.end, count } };
  }
}
