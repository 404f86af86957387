import { hash } from 'node:crypto';
import { LifeboatError } from '../../base/errors.ts';
import { plural } from '../../report/format.ts';
import { storedSize } from '../filesystem/data-ranges.ts';
import type { Directory } from '../filesystem/directory.ts';
import { inParallel } from '../filesystem/in-parallel.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { IndexPart } from '../filesystem/index-part.ts';
import { isWithin, shortPath, type TreePath } from '../filesystem/path.ts';
import type { TimeSetter } from '../filesystem/times.ts';
import { restoredMode, writeSmallFile } from '../filesystem/write-file.ts';
import { PackReader } from '../packs/pack-reader.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import type { ExtractedTree, ExtractTreeOptions } from './extracted-tree.ts';
import { FilesInParts, type PartTask } from './files-in-parts.ts';
import { NewTree } from './new-tree.ts';
import type { TaskLists } from './task-lists.ts';

const WORKERS = 6;
const PROGRESS_MS = 250;
/** Names of the lists that do not belong to a pack. */
const EMPTY = 'empty';
/** Files in parts, in the order in which they were created. The inode in their entries is that of the new file. */
const LARGE = 'large';
const HARDLINKS = 'hardlinks';
const SYMLINKS = 'symlinks';
const OTHERS: ReadonlySet<string> = new Set([EMPTY, LARGE, HARDLINKS, SYMLINKS]);
/** Begins the names of lists of parts; the ID of their pack follows. */
const PARTS = 'parts ';

type Options = ExtractTreeOptions & { target: Directory };

/** One extraction of a tree into an empty directory. */
export class Extraction {
  private readonly options: Options;
  private readonly times: TimeSetter;
  private readonly lists: TaskLists<PartTask>;
  private readonly made: NewTree;
  private readonly large: FilesInParts;
  /** what every part of the file whose parts follow in the index has; absent: its parts are not needed */
  private inParts: Pick<PartTask, 'inode' | 'number' | 'of' | 'sparse'> | undefined;
  /** resolves when the last part is written whose reading has begun */
  private lastPart: Promise<unknown> = Promise.resolve();
  private readonly packs: ReadonlyMap<string, PackRef>;
  private readonly directories: IndexEntry[] = [];
  /** with a selection: maps the first name of a file, if it was not selected, to its first restored name */
  private readonly firstNames = new Map<TreePath, TreePath>();
  private readonly expected = { files: 0, bytes: 0 };
  private readonly result: ExtractedTree = { entries: 0, files: 0, bytes: 0, skipped: {} };
  private lastProgress = 0;
  /** bytes written of incomplete large files */
  private underWay = 0;

  constructor(options: Options, times: TimeSetter, lists: TaskLists<PartTask>) {
    this.options = options;
    this.times = times;
    this.lists = lists;
    this.made = new NewTree(options.target);
    this.large = new FilesInParts(this.made, options.target);
    this.packs = new Map(options.packs.map((pack) => [pack.id, pack]));
  }

  async run(): Promise<ExtractedTree> {
    await this.plan();
    for (const list of this.lists.names()) {
      if (list.startsWith(PARTS)) await this.restoreParts(this.packs.get(list.slice(PARTS.length))!, list);
      else if (!OTHERS.has(list)) await this.restorePack(this.packs.get(list)!, list);
    }
    for await (const entry of this.lists.read(LARGE)) await this.finishLarge(entry);
    await this.inParallel(this.lists.read(EMPTY), (entry) => this.restoreFile(entry, Buffer.alloc(0)));
    for await (const entry of this.lists.read(HARDLINKS)) await this.restoreHardlink(entry);
    for await (const entry of this.lists.read(SYMLINKS)) await this.restoreSymlink(entry);
    await this.finishDirectories();
    this.reportProgress(0);
    const { files, bytes } = this.expected;
    if (this.result.files !== files || this.result.bytes !== bytes) {
      throw new LifeboatError(
        'INTERNAL',
        `restored ${this.result.files} of ${plural(files, 'file')}, ${this.result.bytes} of ${plural(bytes, 'byte')}`,
      );
    }
    return this.result;
  }

  close(): void {
    this.large.close();
    this.made.close();
  }

  /** Reads the index once: creates the directories, and sorts everything else into lists by the pack it needs. */
  private async plan(): Promise<void> {
    const above: { entry: IndexEntry; made: boolean }[] = [];
    const { select, signal } = this.options;
    for await (const entry of this.options.index) {
      signal?.throwIfAborted();
      if (entry.type === 'part') {
        await this.sortPart(entry);
        continue;
      }
      this.inParts = undefined;
      while (above.length > 0 && !isWithin(entry.path, above.at(-1)!.entry.path)) above.pop();
      const isDirectory = entry.type === 'directory';
      if (isDirectory) above.push({ entry, made: false });
      // The root is always restored: it carries the owner, mode and time of the tree.
      if (entry.path !== '' && select && !select(entry.path, isDirectory)) continue;
      for (const directory of above) {
        if (directory.made) continue;
        await this.makeDirectory(directory.entry);
        directory.made = true;
      }
      if (!isDirectory) await this.sort(entry);
    }
  }

  private async makeDirectory(entry: IndexEntry): Promise<void> {
    if (entry.path !== '') {
      await this.made.make(entry, ({ directory, name }) => directory.create(name));
      this.made.expect(entry);
    }
    this.directories.push(entry);
    this.result.entries++;
  }

  private async sort(entry: IndexEntry): Promise<void> {
    if (entry.type === 'hardlink') return this.sortHardlink(entry);
    if (entry.type === 'symlink') {
      this.made.expect(entry);
      return this.lists.add(SYMLINKS, entry);
    }
    if (entry.type === 'file') return this.sortFile(entry);
    if (entry.type !== 'directory') this.result.skipped[entry.type] = (this.result.skipped[entry.type] ?? 0) + 1;
  }

  private async sortFile(entry: IndexEntry): Promise<void> {
    this.made.expect(entry);
    this.expected.files++;
    this.expected.bytes += entry.size ?? 0;
    if (entry.parts !== undefined) return this.beginLarge(entry, entry.parts);
    if (entry.pack !== undefined) this.checkNamed(entry.pack);
    await this.lists.add(entry.pack ?? EMPTY, entry);
  }

  private async beginLarge(entry: IndexEntry, of: number): Promise<void> {
    if (await this.takeOver(entry)) return;
    const inode = await this.large.create(entry);
    await this.lists.add(LARGE, { ...entry, ino: BigInt(inode) });
    this.inParts = { inode, number: 0, of, sparse: entry.sparse === true };
  }

  private async sortPart(part: IndexPart): Promise<void> {
    if (!this.inParts) return;
    this.checkNamed(part.pack);
    await this.lists.addPart(PARTS + part.pack, { ...part, ...this.inParts });
    this.inParts = { ...this.inParts, number: this.inParts.number + 1 };
  }

  private checkNamed(pack: string): void {
    if (this.packs.has(pack)) return;
    throw new LifeboatError('OBJECT_DAMAGED', `the index names a pack that the manifest does not: ${pack}`);
  }

  private async sortHardlink(entry: IndexEntry): Promise<void> {
    const target = entry.target ?? '';
    const restored = !this.options.select || this.options.select(target, false) ? target : this.firstNames.get(target);
    if (restored === undefined) {
      // The first name of the file is not selected, so this name becomes the file.
      this.firstNames.set(target, entry.path);
      return this.sortFile({ ...entry, type: 'file' });
    }
    this.made.expect(entry);
    this.expected.files++;
    await this.lists.add(HARDLINKS, { ...entry, target: restored });
  }

  private async restorePack(pack: PackRef, list: string): Promise<void> {
    let opening: Promise<PackReader> | undefined;
    try {
      await this.inParallel(this.lists.read(list), async (entry) => {
        if (await this.takeOver(entry)) return;
        // The first task opens the reader; the others await the same promise.
        opening ??= this.openPack(pack);
        const reader = await opening;
        await this.restoreFile(entry, await reader.read(entry.entry ?? '', entry.size ?? 0));
      });
    } finally {
      await opening?.then(
        (reader) => reader.close(),
        () => {},
      );
    }
  }

  /** Reads several parts at a time, and writes them in the order of the list. */
  private async restoreParts(pack: PackRef, list: string): Promise<void> {
    const reader = await this.openPack(pack);
    try {
      await this.inParallel(this.lists.readParts(list), (part) => {
        const before = this.lastPart;
        const reading = this.readPart(reader, part);
        const written = Promise.all([reading, before]).then(([content]) => this.large.write(part, content));
        this.lastPart = written.catch(() => {});
        return written.then(() => this.heard(part.size));
      });
    } finally {
      await this.lastPart;
      await reader.close();
    }
  }

  private async readPart(reader: PackReader, part: PartTask): Promise<Buffer> {
    const content = await reader.read(part.entry, part.size);
    if (hash('sha256', content, 'hex') !== part.sha256) throw wrongContent(part);
    return content;
  }

  private async finishLarge(entry: IndexEntry): Promise<void> {
    const { owner, signal } = this.options;
    signal?.throwIfAborted();
    const inode = String(entry.ino);
    const isWhole = await this.large.finish(entry, inode, { owner, heard: () => this.heard(0) });
    if (!isWhole) throw wrongContent(entry);
    this.underWay -= storedSize(entry);
    await this.fileDone(entry, entry.size ?? 0);
  }

  private heard(bytes: number): void {
    this.underWay += bytes;
    this.reportProgress(PROGRESS_MS);
  }

  private openPack(pack: PackRef): Promise<PackReader> {
    const { destination, keys, spool, signal } = this.options;
    return PackReader.open(destination, pack, { spool, keys, signal });
  }

  /** Creates the file from a local source if there is one, without reading the pack. */
  private async takeOver(entry: IndexEntry): Promise<boolean> {
    const { takeOver } = this.options;
    if (!takeOver || !(await this.made.make(entry, (to) => takeOver(entry, to)))) return false;
    await this.fileDone(entry, entry.size ?? 0);
    return true;
  }

  private async restoreFile(entry: IndexEntry, content: Buffer): Promise<void> {
    if (hash('sha256', content, 'hex') !== entry.sha256) throw wrongContent(entry);
    const written = await this.made.make(entry, (to) => writeSmallFile(to, entry, content, this.options.owner));
    await this.fileDone(entry, written);
  }

  private async fileDone(entry: IndexEntry, written: number): Promise<void> {
    await this.times.set(entry.path, entry.mtime);
    this.result.entries++;
    this.result.files++;
    this.result.bytes += written;
    this.reportProgress(PROGRESS_MS);
  }

  private async restoreHardlink(entry: IndexEntry): Promise<void> {
    await this.made.link(entry);
    this.result.entries++;
    this.result.files++;
  }

  private async restoreSymlink(entry: IndexEntry): Promise<void> {
    const owner = this.options.owner ? entry : undefined;
    await this.made.make(entry, ({ directory, name }) => directory.createLink(name, entry.target ?? '', owner));
    await this.times.set(entry.path, entry.mtime);
    this.result.entries++;
  }

  /**
   * Finishes the deepest directories first. Modes come last, so that a directory without permissions does not block
   * access to its content.
   */
  private async finishDirectories(): Promise<void> {
    const { owner, signal } = this.options;
    const directories = this.directories.reverse();
    for (const entry of directories) {
      if (owner) this.made.finish(entry, (directory) => directory.chown(entry));
      await this.times.set(entry.path, entry.mtime);
    }
    await this.made.compare(signal);
    await this.made.finishTimes(this.times);
    for (const entry of directories) {
      this.made.finish(entry, (directory) => directory.chmod(restoredMode(entry, owner)));
    }
  }

  private inParallel<T>(tasks: AsyncGenerator<T>, restore: (task: T) => Promise<void>): Promise<void> {
    return inParallel(WORKERS, tasks, restore, this.options.signal);
  }

  private reportProgress(minimumMs: number): void {
    const now = Date.now();
    if (now - this.lastProgress < minimumMs) return;
    this.lastProgress = now;
    this.options.progress?.({ done: this.result.bytes + this.underWay, files: this.result.files });
  }
}

function wrongContent({ path }: { path: TreePath }): LifeboatError {
  return new LifeboatError(
    'OBJECT_DAMAGED',
    `the stored content of ${shortPath(path)} is not the content that was backed up`,
  );
}
