import { hash } from 'node:crypto';
import { LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { TaskLists } from '../content/task-lists.ts';
import type { FileType } from '../filesystem/file-stat.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { IndexPart } from '../filesystem/index-part.ts';
import { isWithin } from '../filesystem/path.ts';
import type { IndexLine } from '../filesystem/read-index.ts';
import { PackCache } from '../packs/pack-cache.ts';
import { PackReader } from '../packs/pack-reader.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import type { ArchiveItem, ArchiveWriter } from './archive-writer.ts';
import { named, wrongContent } from './content-errors.ts';
import { following, isCompressed, none, readParts, verified } from './large-content.ts';

export interface ExportTreeOptions {
  /** the index as `readIndexLines` yields it: checked, and in order */
  index: AsyncIterable<IndexLine>;
  packs: readonly PackRef[];
  destination: Destination;
  keys: SealKeys;
  writer: ArchiveWriter;
  /** selects paths, together with their parent directories; absent: everything */
  select?: PathPredicate;
  /** an existing directory with room for one unpacked pack, better for several, and for lists of files */
  spool: string;
  signal?: AbortSignal;
  progress?(progress: { done: number; files: number }): void;
}

/**
 * The exported tree. `files` includes hard links; `bytes` counts their content only if the archive contains it again.
 */
export interface ExportedTree {
  entries: number;
  files: number;
  bytes: number;
  /** FIFOs, sockets and devices in the index, which are not written */
  skipped: Partial<Record<FileType, number>>;
}

/** Names of the lists that do not belong to a pack. */
const EMPTY = 'empty';
const HARDLINKS = 'hardlinks';
const SYMLINKS = 'symlinks';
const DIRECTORIES = 'directories';
/** Files in parts, and their parts in the same order. */
const LARGE = 'large';
const PARTS = 'parts';
const OTHERS: ReadonlySet<string> = new Set([EMPTY, LARGE, PARTS, HARDLINKS, SYMLINKS, DIRECTORIES]);
const PROGRESS_MS = 250;
/** Smaller files are not deflated in a zip: each deflated file takes 250 KiB of memory until garbage collection. */
const MIN_DEFLATED = 64 * 1024;

/**
 * Writes a stored tree to an archive, and verifies all content against the index. Small files are written pack by pack,
 * so each of their packs is read once. Large files, and then links, follow. A zip has no hard links: it contains the
 * content once for each name. Holes are written as zeros.
 *
 * @throws OBJECT_MISSING and OBJECT_DAMAGED, with the path of the file; KEY_MISSING, KEY_WRONG, SPOOL_FULL; the errors
 *   of the writer
 */
export async function exportTree(options: ExportTreeOptions): Promise<ExportedTree> {
  const lists = new TaskLists(options.spool);
  try {
    return await new TreeExport(options, lists).run();
  } finally {
    await lists.close();
  }
}

interface WrittenFile {
  type: 'file' | 'hardlink';
  size: number;
  content?: Buffer | AsyncIterable<Buffer>;
  deflate?: boolean;
}

class TreeExport {
  private readonly options: ExportTreeOptions;
  private readonly lists: TaskLists;
  private readonly packs: ReadonlyMap<string, PackRef>;
  /** whether the parts that follow in the index are those of a file to write */
  private isInParts = false;
  private readonly result: ExportedTree = { entries: 0, files: 0, bytes: 0, skipped: {} };
  private lastProgress = 0;

  constructor(options: ExportTreeOptions, lists: TaskLists) {
    this.options = options;
    this.lists = lists;
    this.packs = new Map(options.packs.map((pack) => [pack.id, pack]));
  }

  async run(): Promise<ExportedTree> {
    await this.plan();
    for (const list of this.lists.names()) {
      if (!OTHERS.has(list)) await this.writePack(this.packs.get(list)!, list);
    }
    await this.writeLargeFiles();
    for await (const entry of this.lists.read(EMPTY)) await this.writeEmpty(entry);
    for await (const entry of this.lists.read(HARDLINKS)) await this.fileDone(entry, { type: 'hardlink', size: 0 });
    for await (const entry of this.lists.read(SYMLINKS)) await this.add(entry, 'symlink');
    for await (const entry of this.lists.read(DIRECTORIES)) await this.add(entry, 'directory');
    this.report(0);
    return this.result;
  }

  /** Reads the index once, and sorts everything into lists by the pack it needs. */
  private async plan(): Promise<void> {
    const above: { entry: IndexEntry; written: boolean }[] = [];
    const { select, signal, writer } = this.options;
    for await (const entry of this.options.index) {
      signal?.throwIfAborted();
      while (above.length > 0 && !isWithin(entry.path, above.at(-1)!.entry.path)) above.pop();
      if (entry.type === 'part') {
        if (this.isInParts) await this.lists.addPart(PARTS, entry);
        continue;
      }
      this.isInParts = false;
      const isDirectory = entry.type === 'directory';
      // A zip has no entry for the root.
      if (isDirectory) above.push({ entry, written: entry.path === '' && writer.format === 'zip' });
      if (entry.path !== '' && select && !select(entry.path, isDirectory)) continue;
      for (const directory of above) {
        if (!directory.written) await this.addDirectory(directory.entry);
        directory.written = true;
      }
      if (!isDirectory) await this.sort(entry);
    }
  }

  /** Writes directories last in a tar: tar programs may set their times as soon as they read them. */
  private addDirectory(entry: IndexEntry): Promise<void> {
    return this.options.writer.format === 'tar' ? this.lists.add(DIRECTORIES, entry) : this.add(entry, 'directory');
  }

  private async sort(entry: IndexEntry): Promise<void> {
    if (entry.type === 'symlink') return this.lists.add(SYMLINKS, entry);
    if (entry.type === 'hardlink') return this.sortHardlink(entry);
    if (entry.type === 'file') return this.sortFile(entry);
    const { skipped } = this.result;
    if (entry.type !== 'directory') skipped[entry.type] = (skipped[entry.type] ?? 0) + 1;
  }

  private async sortFile(entry: IndexEntry): Promise<void> {
    this.isInParts = entry.parts !== undefined;
    if (entry.pack !== undefined && !this.packs.has(entry.pack)) {
      throw new LifeboatError('OBJECT_DAMAGED', `the index names a pack that the manifest does not: ${entry.pack}`);
    }
    await this.lists.add(this.isInParts ? LARGE : (entry.pack ?? EMPTY), { ...entry, type: 'file' });
  }

  private async sortHardlink(entry: IndexEntry): Promise<void> {
    const { select, writer } = this.options;
    if (writer.format === 'zip') return this.sortFile(entry);
    const target = entry.target ?? '';
    const written = !select || select(target, false) ? target : await this.lists.firstNames.find(target);
    if (written !== undefined) return this.lists.add(HARDLINKS, { ...entry, target: written });
    // The first name of the file is not selected, so this name becomes the file.
    await this.lists.firstNames.add(target, entry.path);
    return this.sortFile(entry);
  }

  private async writePack(pack: PackRef, list: string): Promise<void> {
    const { destination, keys, spool, signal } = this.options;
    let reader: PackReader | undefined;
    try {
      for await (const entry of this.lists.read(list)) {
        signal?.throwIfAborted();
        try {
          reader ??= await PackReader.open(destination, pack, { spool, keys, signal });
          await this.writeSmall(entry, pack, await reader.read(entry.entry ?? '', entry.size ?? 0));
        } catch (error) {
          throw named(error, entry.path);
        }
      }
    } finally {
      await reader?.close();
    }
  }

  private async writeLargeFiles(): Promise<void> {
    const packs = new PackCache(this.packs, this.options);
    const parts = this.lists.readParts(PARTS);
    try {
      for await (const entry of this.lists.read(LARGE)) {
        try {
          await this.writeLarge(entry, parts, packs);
        } catch (error) {
          throw named(error, entry.path);
        }
      }
    } finally {
      await parts.return(undefined);
      await packs.close();
    }
  }

  private async writeEmpty(entry: IndexEntry): Promise<void> {
    const { size = 0, ranges } = entry;
    if (ranges)
      return this.fileDone(entry, { type: 'file', size, content: this.checked(entry, none()), deflate: true });
    return this.writeSmall(entry, undefined, Buffer.alloc(0));
  }

  private async writeSmall(entry: IndexEntry, pack: PackRef | undefined, content: Buffer): Promise<void> {
    if (hash('sha256', content, 'hex') !== entry.sha256) throw wrongContent();
    const deflate = pack !== undefined && isCompressed(pack) && content.length >= MIN_DEFLATED;
    await this.fileDone(entry, { type: 'file', size: content.length, content, deflate });
  }

  private async writeLarge(entry: IndexEntry, parts: AsyncGenerator<IndexPart>, packs: PackCache): Promise<void> {
    const { size = 0, ranges, parts: count = 0 } = entry;
    const { value: first } = await parts.next();
    const pack = this.packs.get(first?.pack ?? '');
    const deflate = ranges !== undefined || (pack !== undefined && isCompressed(pack));
    const content = this.checked(entry, readParts(packs, following(first, parts, count), this.options.signal));
    await this.fileDone(entry, { type: 'file', size, content, deflate });
  }

  private checked(entry: IndexEntry, stored: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    return verified(entry, stored, (bytes) => {
      this.result.bytes += bytes;
      this.report(PROGRESS_MS);
    });
  }

  private async fileDone(entry: IndexEntry, { type, size, content, deflate = false }: WrittenFile): Promise<void> {
    await this.add(entry, type, content, { size, deflate });
    this.result.files++;
    if (Buffer.isBuffer(content)) this.result.bytes += size;
    this.report(PROGRESS_MS);
  }

  private async add(
    { path, mode, uid, gid, mtime, target }: IndexEntry,
    type: ArchiveItem['type'],
    content?: Buffer | AsyncIterable<Buffer>,
    more: Pick<ArchiveItem, 'size' | 'deflate'> = {},
  ): Promise<void> {
    const isLink = type === 'symlink' || type === 'hardlink';
    const link = isLink && target !== undefined ? { target } : {};
    await this.options.writer.add({ path, type, mode, uid, gid, mtime, ...link, ...more }, content);
    this.result.entries++;
  }

  private report(minimumMs: number): void {
    const now = Date.now();
    if (now - this.lastProgress < minimumMs) return;
    this.lastProgress = now;
    this.options.progress?.({ done: this.result.bytes, files: this.result.files });
  }
}
