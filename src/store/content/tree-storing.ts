import { realpath } from 'node:fs/promises';
import { findDataDirectories } from '../filesystem/data-directory.ts';
import type { Directory } from '../filesystem/directory.ts';
import type { FileStat } from '../filesystem/file-stat.ts';
import { isFreshAt } from '../filesystem/file-system.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { pathUnder, type TreePath } from '../filesystem/path.ts';
import { isTooLong, messageWithoutPath } from '../filesystem/system-error.ts';
import { openRoot, type WalkItem, walk } from '../filesystem/walk.ts';
import { lastWritten } from '../sqlite/sqlite-file.ts';
import { ContentStore, SMALL_FILE, type StoredFile } from './content-store.ts';
import { type IndexWriter, RefusedLine } from './index-writer.ts';
import type { Content } from './known.ts';
import { contentOf, type PreviousEntry, type PreviousIndex } from './previous-index.ts';
import { DatabaseStoring } from './store-database.ts';
import { addIssue, emptyResult, type StoredTree, type StoringOptions } from './stored-tree.ts';
import { packPrefix, StoringFiles } from './storing-files.ts';
import { FirstLinks, isUnchanged, type Job, MADE, metadata } from './storing-job.ts';

const MAX_JOBS = 512;
const MAX_READS = 256;
const MAX_READ_BYTES = 4 * 1024 * 1024;
const PROGRESS_MS = 250;

/** Stores one tree. {@link ContentStore} stores the content of its files. */
export class TreeStoring {
  private readonly options: StoringOptions;
  private readonly root: Directory;
  private readonly absolute: (path: TreePath) => Buffer;
  private readonly files: StoringFiles;
  private readonly index: IndexWriter;
  private readonly previous: PreviousIndex;
  private readonly contents: ContentStore;
  private readonly databases: DatabaseStoring | undefined;
  private readonly smallFile: number;
  private readonly links = new FirstLinks();
  private readonly queue: Job[] = [];
  private reads = 0;
  private readBytes = 0;
  private lastProgress = 0;
  /** bytes read of the large file being stored */
  private underWay = 0;
  private readonly result = emptyResult();

  private constructor(options: StoringOptions, root: Directory, files: StoringFiles) {
    const { destination, keys, recordObject, fileMounts, signal } = options;
    const { index, parts, previous } = files;
    this.options = options;
    this.root = root;
    // Reading compares a file's place with its real path, see isAt.
    this.absolute = pathUnder(root.realPath());
    this.files = files;
    this.index = index;
    this.previous = previous;
    this.smallFile = options.smallFile ?? SMALL_FILE;
    const writing = { destination, keys, recordObject, signal, prefix: packPrefix(options) };
    const heard = (bytes: number) => {
      this.underWay += bytes;
      this.reportProgress(PROGRESS_MS);
    };
    this.contents = new ContentStore({ packs: writing, smallFile: this.smallFile, index, parts, previous, heard });
    if (options.spool !== undefined) {
      this.databases = new DatabaseStoring({
        ...{ spool: options.spool, contents: this.contents, smallFile: this.smallFile, fileMounts, heard, signal },
        issue: (kind, path, message, cause) => addIssue(this.result, kind, { path, message, cause }),
      });
    }
  }

  static async begin(options: StoringOptions): Promise<TreeStoring> {
    const files = await StoringFiles.open(options);
    let root: Directory | undefined;
    try {
      const spool = options.spool === undefined ? {} : { spool: await realpath(options.spool) };
      root = openRoot(options.root);
      return new TreeStoring({ ...options, ...spool }, root, files);
    } catch (error) {
      root?.close();
      await files.abort();
      throw error;
    }
  }

  async run(): Promise<void> {
    const { include = [], exclude = [], leaveOut, signal } = this.options;
    const enter = findDataDirectories(this.result.dataDirectories, leaveOut);
    for await (const item of walk(this.root, { include, exclude, enter, signal })) {
      if (item.stat) this.queue.push(this.start(item, await this.previous.at(item.path)));
      else this.noteUnreadable(item.path, item.error);
      while (this.queue.length >= MAX_JOBS || this.reads >= MAX_READS || this.readBytes >= MAX_READ_BYTES) {
        await this.finishJob(this.queue.shift()!);
      }
    }
    for (let job = this.queue.shift(); job; job = this.queue.shift()) await this.finishJob(job);
  }

  async finish(): Promise<StoredTree> {
    const stored = await this.contents.finish();
    await this.index.finish();
    // A pack is not used if it holds only parts of a file that changed, or could not be read to its end.
    const packs = await this.previous.packs(this.index.usedPacks, stored);
    await this.close();
    this.result.newFiles = this.contents.newFiles;
    this.result.databases = this.databases?.count ?? 0;
    this.result.newBytes = stored.reduce((sum, pack) => sum + pack.size, 0);
    this.result.warnings.push(...this.previous.warnings);
    this.reportProgress(0);
    return { ...this.result, packs };
  }

  /** Removes the index and unfinished objects. Packs that are already stored stay: the object log names them. */
  async abort(reason: Error): Promise<void> {
    await this.contents.abort(reason);
    await this.close();
  }

  private async close(): Promise<void> {
    await this.databases?.close();
    await this.contents.close();
    this.root.close();
    await this.files.abort();
  }

  /** Decides how to handle a name, and starts to read a small file. */
  private start({ path, stat, target }: WalkItem & { stat: FileStat }, previous: PreviousEntry | undefined): Job {
    const content = this.unchangedContent(path, stat, previous);
    // The stored content of a database is a copy, and not that of the file.
    const former = content?.sqlite === undefined ? content : undefined;
    const job: Job = { path, stat, target, ...(previous?.usable ? { unchanged: content } : { former }) };
    if (stat.type !== 'file' || stat.size > this.smallFile || job.unchanged) return job;
    // Another name of this file is being stored, so it is not read again.
    if (stat.nlink > 1 && this.links.isRead(stat)) return job;
    job.reading = this.contents.read(this.absolute(path), stat.size);
    // The error is handled when the job's turn comes. A run that ends before does not need it.
    job.reading.catch(() => {});
    this.reads++;
    this.readBytes += stat.size;
    return job;
  }

  /** Returns the previous content if nothing indicates that the file has changed since. */
  private unchangedContent(path: TreePath, stat: FileStat, previous: PreviousEntry | undefined): Content | undefined {
    if (!previous || previous.entry.changed) return undefined;
    const { sqlite } = previous.entry;
    if (sqlite === undefined && !isUnchanged(stat, previous.entry)) return undefined;
    if (this.databases?.mayHaveChanged(path, stat, this.absolute(path), sqlite) ?? sqlite !== undefined)
      return undefined;
    return contentOf(previous);
  }

  private async finishJob(job: Job): Promise<void> {
    if (job.reading) {
      this.reads--;
      this.readBytes -= job.stat.size;
    }
    const { path, stat, target } = job;
    try {
      if (stat.type === 'file') {
        if (!this.databases?.covers(path, this.absolute(path))) await this.finishFile(job);
      } else if (target !== undefined) this.emit({ ...this.metadata(path, stat), target });
      else {
        this.emit(this.metadata(path, stat));
        if (stat.type !== 'directory') this.result.skipped[stat.type] = (this.result.skipped[stat.type] ?? 0) + 1;
      }
    } catch (error) {
      // A directory cannot be left out: the entries in it need its line.
      if (!(error instanceof RefusedLine) || stat.type === 'directory') throw error;
      addIssue(this.result, 'unreadable', { path, message: error.message });
    }
    if (this.index.full) await this.index.flush();
    this.reportProgress(PROGRESS_MS);
  }

  private async finishFile({ path, stat, unchanged, former, reading }: Job): Promise<void> {
    const first = stat.nlink > 1 ? this.links.find(stat) : undefined;
    if (reading) this.links.wasRead(stat);
    if (first !== undefined) {
      const { entry, end } = await this.index.entryAt(first);
      this.emit({ ...entry, ...this.metadata(path, stat), type: 'hardlink', target: entry.path });
      await this.index.repeatParts(end, entry.parts);
      this.result.files++;
      this.databases?.checkName(path, this.absolute(path), entry.sqlite);
      this.links.see(stat);
    } else if (unchanged) {
      this.result.unchangedFiles++;
      if (unchanged.sqlite !== undefined) this.databases?.cover(path);
      const written = unchanged.sqlite === undefined ? {} : { mtime: lastWritten(stat, this.absolute(path)) };
      await this.emitFile(path, { content: unchanged, stat: { ...stat, ...written }, changed: false });
    } else {
      const absolute = this.absolute(path);
      this.underWay = 0;
      const read = stat.size > this.smallFile ? undefined : await (reading ?? this.contents.read(absolute, stat.size));
      const plain = () =>
        read
          ? this.contents.store(path, absolute, read)
          : this.contents.storeLarge(path, absolute, former && { content: former, stat });
      const stored = await (this.databases?.isDatabase(absolute, read)
        ? this.databases.store(path, absolute, plain)
        : plain());
      this.underWay = 0;
      if (stored.outcome === 'stored') await this.emitFile(path, stored);
      else if (stored.outcome === 'unreadable') this.noteUnreadable(path, stored.error);
    }
  }

  private noteUnreadable(path: TreePath, error: Error): void {
    const cause = isTooLong(error) ? 'length' : undefined;
    addIssue(this.result, 'unreadable', { path, message: messageWithoutPath(error), cause });
  }

  private async emitFile(
    path: TreePath,
    { content, stat, changed }: Omit<Extract<StoredFile, { outcome: 'stored' }>, 'outcome'>,
  ): Promise<void> {
    const { parts, ...rest } = content;
    const entry: IndexEntry = { ...this.metadata(path, stat), ...rest, ...(parts && { parts: parts.count }) };
    if (!this.options.isMade) {
      const isFresh = isFreshAt(this.absolute(path), stat);
      Object.assign(entry, { ino: stat.ino }, isFresh ? {} : { ctime: stat.ctime });
    }
    if (stat.sparse || content.ranges) entry.sparse = true;
    if (changed) {
      entry.changed = true;
      addIssue(this.result, 'changed', { path, message: 'changed each time it was read' });
    }
    const offset = this.emit(entry);
    this.contents.remember(entry, offset);
    await this.index.addParts(parts);
    this.result.files++;
    this.result.bytes += content.size;
    if (stat.nlink > 1) this.links.add(stat, offset);
  }

  private metadata(path: TreePath, stat: FileStat): IndexEntry {
    return metadata(path, this.options.isMade ? { ...stat, mtime: MADE } : stat);
  }

  private emit(entry: IndexEntry): number {
    const offset = this.index.add(entry);
    this.result.entries++;
    return offset;
  }

  private reportProgress(minimumMs: number): void {
    const now = Date.now();
    if (now - this.lastProgress < minimumMs) return;
    this.lastProgress = now;
    this.options.progress?.({ done: this.result.bytes + this.underWay, files: this.result.files });
  }
}
