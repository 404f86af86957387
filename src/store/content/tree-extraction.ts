import { hash } from 'node:crypto';
import { LifeboatError } from '../../base/errors.ts';
import { inParallel } from '../../base/in-parallel.ts';
import { plural } from '../../report/format.ts';
import { storedSize } from '../filesystem/data-ranges.ts';
import type { Directory } from '../filesystem/directory.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { isWithin } from '../filesystem/path.ts';
import type { TimeSetter } from '../filesystem/times.ts';
import { restoredMode, writeSmallFile } from '../filesystem/write-file.ts';
import type { PackReader } from '../packs/pack-reader.ts';
import { PackSequence } from '../packs/pack-sequence.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import { type ExtractedTree, ExtractionProgress, type ExtractTreeOptions } from './extracted-tree.ts';
import type { PartTask } from './files-in-parts.ts';
import { NewTree } from './new-tree.ts';
import { LARGE, PartRestoring, packOfParts, wrongContent } from './part-restoring.ts';
import type { TaskLists } from './task-lists.ts';

const WORKERS = 6;
/** Names of the lists that do not belong to a pack. */
const EMPTY = 'empty';
const DIRECTORIES = 'directories';
const HARDLINKS = 'hardlinks';
const SYMLINKS = 'symlinks';

type Options = ExtractTreeOptions & { target: Directory };

/** One extraction of a tree into an empty directory. */
export class Extraction {
  private readonly options: Options;
  private readonly times: TimeSetter;
  private readonly lists: TaskLists<PartTask>;
  private readonly made: NewTree;
  private readonly parts: PartRestoring;
  private readonly packs: ReadonlyMap<string, PackRef>;
  private readonly expected = { files: 0, bytes: 0 };
  private readonly result: ExtractedTree = { entries: 0, files: 0, bytes: 0, skipped: {} };
  private readonly progress: ExtractionProgress;

  constructor(options: Options, times: TimeSetter, lists: TaskLists<PartTask>) {
    this.options = options;
    this.times = times;
    this.lists = lists;
    this.made = new NewTree(options.target);
    this.progress = new ExtractionProgress(this.result, options.progress);
    const { target, owner, signal } = options;
    const { made } = this;
    const heard = (bytes: number) => this.progress.heard(bytes);
    this.parts = new PartRestoring({ lists, made, target, owner, signal, heard });
    this.packs = new Map(options.packs.map((pack) => [pack.id, pack]));
  }

  async run(): Promise<ExtractedTree> {
    await this.plan();
    await this.restorePacks();
    for await (const entry of this.lists.read(LARGE)) await this.finishLarge(entry);
    await this.inParallel(this.lists.read(EMPTY), (entry) => this.restoreFile(entry, Buffer.alloc(0)));
    for await (const entry of this.lists.read(HARDLINKS)) await this.restoreHardlink(entry);
    for await (const entry of this.lists.read(SYMLINKS)) await this.restoreSymlink(entry);
    await this.finishDirectories();
    this.progress.report(true);
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
    this.parts.close();
    this.made.close();
  }

  /** Reads the index once: creates the directories, and sorts everything else into lists by the pack it needs. */
  private async plan(): Promise<void> {
    const above: { entry: IndexEntry; made: boolean }[] = [];
    const { select, signal } = this.options;
    for await (const entry of this.options.index) {
      signal?.throwIfAborted();
      if (entry.type === 'part') {
        if (this.parts.isWanted) this.checkNamed(entry.pack);
        await this.parts.add(entry);
        continue;
      }
      this.parts.endFile();
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
    await this.lists.add(DIRECTORIES, entry);
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
    if (entry.parts !== undefined) {
      if (!(await this.takeOver(entry))) await this.parts.begin(entry);
      return;
    }
    if (entry.pack !== undefined) this.checkNamed(entry.pack);
    await this.lists.add(entry.pack ?? EMPTY, entry);
  }

  private checkNamed(pack: string): void {
    if (this.packs.has(pack)) return;
    throw new LifeboatError('OBJECT_DAMAGED', `the index names a pack that the manifest does not: ${pack}`);
  }

  private async sortHardlink(entry: IndexEntry): Promise<void> {
    const target = entry.target ?? '';
    const restored =
      !this.options.select || this.options.select(target, false) ? target : await this.lists.firstNames.find(target);
    if (restored === undefined) {
      // The first name of the file is not selected, so this name becomes the file.
      await this.lists.firstNames.add(target, entry.path);
      return this.sortFile({ ...entry, type: 'file' });
    }
    this.made.expect(entry);
    this.expected.files++;
    await this.lists.add(HARDLINKS, { ...entry, target: restored });
  }

  private async restorePacks(): Promise<void> {
    const { destination, keys, spool, signal, takeOver } = this.options;
    const needed = this.lists.names().flatMap((list) => {
      const parts = packOfParts(list);
      const pack = this.packs.get(parts ?? list);
      return pack ? [{ list, pack, isParts: parts !== undefined }] : [];
    });
    // A pack of whole files is not needed if all of them can be taken over.
    const certain = needed.filter(({ isParts }) => isParts || !takeOver).map(({ pack }) => pack);
    const packs = new PackSequence(certain, { destination, keys, spool, signal });
    try {
      for (const { list, pack, isParts } of needed) {
        if (isParts) await this.parts.restore(() => packs.open(pack), list);
        else await this.restorePack(() => packs.open(pack), list);
      }
    } finally {
      await packs.close();
    }
  }

  private async restorePack(open: () => Promise<PackReader>, list: string): Promise<void> {
    let opening: Promise<PackReader> | undefined;
    try {
      await this.inParallel(this.lists.read(list), async (entry) => {
        if (await this.takeOver(entry)) return;
        // The first task opens the reader; the others await the same promise.
        opening ??= open();
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

  private async finishLarge(entry: IndexEntry): Promise<void> {
    this.options.signal?.throwIfAborted();
    await this.parts.finish(entry);
    this.progress.complete(storedSize(entry));
    await this.fileDone(entry, entry.size ?? 0);
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
    this.progress.report();
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
    for await (const entry of this.lists.readBackwards(DIRECTORIES)) {
      if (owner) this.made.finish(entry, (directory) => directory.chown(entry));
      await this.times.set(entry.path, entry.mtime);
    }
    await this.made.compare(signal);
    await this.made.finishTimes(this.times);
    for await (const entry of this.lists.readBackwards(DIRECTORIES)) {
      this.made.finish(entry, (directory) => directory.chmod(restoredMode(entry, owner)));
    }
  }

  private inParallel<T>(tasks: AsyncGenerator<T>, restore: (task: T) => Promise<void>): Promise<void> {
    return inParallel(WORKERS, tasks, restore, this.options.signal);
  }
}
