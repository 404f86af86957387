import { createHash, hash } from 'node:crypto';
import { LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { SMALL_FILE } from '../content/content-store.ts';
import { TaskLists } from '../content/task-lists.ts';
import { filled, rangesText, storedSize } from '../filesystem/data-ranges.ts';
import type { FileType } from '../filesystem/file-stat.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { isWithin, type TreePath } from '../filesystem/path.ts';
import { PackReader, streamSingle } from '../packs/pack-reader.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import type { ArchiveItem, ArchiveWriter } from './archive-writer.ts';
import { named, wrongContent } from './content-errors.ts';

export interface ExportTreeOptions {
  /** the index as `readIndex` yields it: checked, and in order */
  index: AsyncIterable<IndexEntry>;
  packs: readonly PackRef[];
  destination: Destination;
  keys: SealKeys;
  writer: ArchiveWriter;
  /** selects paths, together with their parent directories; absent: everything */
  select?: PathPredicate;
  /** an existing directory with room for one unpacked pack of small files, and for lists of files */
  spool: string;
  /** the limit with which the tree was stored; only tests set another value */
  smallFile?: number;
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
const OTHERS: ReadonlySet<string> = new Set([EMPTY, HARDLINKS, SYMLINKS, DIRECTORIES]);
const PROGRESS_MS = 250;
/** Smaller files are not deflated in a zip: each deflated file takes 250 KiB of memory until garbage collection. */
const MIN_DEFLATED = 64 * 1024;

/**
 * Writes a stored tree to an archive, and verifies all content against the index. Files are written pack by pack, so
 * each pack is read once, and links follow. A zip has no hard links: it contains the content once for each name. Holes
 * are written as zeros.
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

class TreeExport {
  private readonly options: ExportTreeOptions;
  private readonly lists: TaskLists;
  private readonly packs: ReadonlyMap<string, PackRef>;
  /** with a selection: the first written name of a file whose first name was not selected */
  private readonly firstNames = new Map<TreePath, TreePath>();
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
    if (entry.pack !== undefined && !this.packs.has(entry.pack)) {
      throw new LifeboatError('OBJECT_DAMAGED', `the index names a pack that the manifest does not: ${entry.pack}`);
    }
    await this.lists.add(entry.pack ?? EMPTY, { ...entry, type: 'file' });
  }

  private async sortHardlink(entry: IndexEntry): Promise<void> {
    const { select, writer } = this.options;
    if (writer.format === 'zip') return this.sortFile(entry);
    const target = entry.target ?? '';
    const written = !select || select(target, false) ? target : this.firstNames.get(target);
    if (written !== undefined) return this.lists.add(HARDLINKS, { ...entry, target: written });
    // The first name of the file is not selected, so this name becomes the file.
    this.firstNames.set(target, entry.path);
    return this.sortFile(entry);
  }

  private async writePack(pack: PackRef, list: string): Promise<void> {
    const { destination, keys, spool, signal, smallFile = SMALL_FILE } = this.options;
    let reader: PackReader | undefined;
    try {
      for await (const entry of this.lists.read(list)) {
        signal?.throwIfAborted();
        try {
          if ((entry.size ?? 0) > smallFile) await this.writeLarge(entry, pack);
          else {
            reader ??= await PackReader.open(destination, pack, { spool, keys, signal });
            await this.writeSmall(entry, pack, await reader.read(entry.entry ?? '', entry.size ?? 0));
          }
        } catch (error) {
          throw named(error, entry.path);
        }
      }
    } finally {
      await reader?.close();
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

  private async writeLarge(entry: IndexEntry, pack: PackRef): Promise<void> {
    const { destination, keys, signal } = this.options;
    const stored = streamSingle(
      destination,
      { pack, entry: entry.entry ?? '', size: storedSize(entry) },
      { keys, signal },
    );
    const deflate = isCompressed(pack) || entry.ranges !== undefined;
    await this.fileDone(entry, { type: 'file', size: entry.size ?? 0, content: this.checked(entry, stored), deflate });
  }

  /** Yields the whole content. Throws at its end if it is not the content that was stored. */
  private async *checked(entry: IndexEntry, stored: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const hashing = createHash('sha256');
    async function* hashed(): AsyncGenerator<Buffer> {
      for await (const chunk of stored) {
        hashing.update(chunk);
        yield chunk;
      }
    }
    const { ranges, size = 0 } = entry;
    for await (const chunk of ranges ? filled(hashed(), ranges, size) : hashed()) {
      this.result.bytes += chunk.length;
      this.report(PROGRESS_MS);
      yield chunk;
    }
    if (ranges) hashing.update(rangesText(ranges));
    if (hashing.digest('hex') !== entry.sha256) throw wrongContent();
  }

  private async fileDone(
    entry: IndexEntry,
    {
      type,
      size,
      content,
      deflate = false,
    }: {
      type: 'file' | 'hardlink';
      size: number;
      content?: Buffer | AsyncIterable<Buffer>;
      deflate?: boolean;
    },
  ): Promise<void> {
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

async function* none(): AsyncGenerator<Buffer> {}

/** Returns whether a pack is compressed. Its files are then worth compressing in the archive too. */
function isCompressed({ key }: PackRef): boolean {
  return /\.zip\.zst(\.|$)/.test(key);
}
