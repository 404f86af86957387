import { ContentStore, SMALL_FILE } from '../store/content/content-store.ts';
import type { Content, PartLines } from '../store/content/known.ts';
import { emptyResult, type StoredTree, type StoreTreeOptions } from '../store/content/stored-tree.ts';
import { packPrefix, StoringFiles } from '../store/content/storing-files.ts';
import { encodeIndexEntry, type IndexEntry } from '../store/filesystem/index-file.ts';
import { comparePaths, type TreePath } from '../store/filesystem/path.ts';

/** One name of a tree that arrives as a stream. */
export interface TreeMember {
  path: TreePath;
  type: 'file' | 'directory' | 'symlink';
  mode: number;
  uid: number;
  gid: number;
  /** nanoseconds since 1970 */
  mtime: bigint;
  /** size of a file, bytes */
  size: number;
  target?: TreePath;
  /** content of a file; must be read before the next member is requested */
  content(): AsyncIterable<Buffer>;
}

type StoreMembersOptions = Pick<
  StoreTreeOptions,
  | 'project'
  | 'source'
  | 'destination'
  | 'keys'
  | 'previous'
  | 'known'
  | 'indexPath'
  | 'recordObject'
  | 'signal'
  | 'progress'
  | 'smallFile'
> & { members: AsyncIterable<TreeMember> };

const PROGRESS_MS = 250;

/**
 * Stores a tree that arrives in any order, each file once. Unlike {@link storeTree}, reads every file, because a stream
 * does not show what is unchanged. Content that the previous index names is only referenced. Memory grows with the
 * number of files, by about 500 bytes for each.
 */
export async function storeMembers(options: StoreMembersOptions): Promise<StoredTree> {
  const storing = new MembersStoring(options, await StoringFiles.open(options));
  try {
    for await (const member of options.members) {
      options.signal?.throwIfAborted();
      await storing.add(member);
    }
    return await storing.finish();
  } catch (error) {
    await storing.abort(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}

class MembersStoring {
  private readonly options: StoreMembersOptions;
  private readonly files: StoringFiles;
  private readonly contents: ContentStore;
  private readonly smallFile: number;
  private readonly entries: { entry: IndexEntry; parts?: PartLines }[] = [];
  private readonly result = emptyResult();
  private underWay = 0;
  private lastProgress = 0;

  constructor(options: StoreMembersOptions, files: StoringFiles) {
    const { destination, keys, recordObject, signal, smallFile = SMALL_FILE } = options;
    this.options = options;
    this.files = files;
    this.smallFile = smallFile;
    // The offset of a line is its place in the list.
    const index = {
      lineAt: async (at: number) => {
        const line = this.entries[at];
        return line && Buffer.from(encodeIndexEntry(line.entry).slice(0, -1));
      },
    };
    const heard = (bytes: number) => {
      this.underWay += bytes;
      this.report(PROGRESS_MS);
    };
    const { previous, parts } = files;
    const packs = { destination, keys, recordObject, signal, prefix: packPrefix(options) };
    this.contents = new ContentStore({ packs, smallFile, index, parts, previous, heard });
  }

  async add(member: TreeMember): Promise<void> {
    const { path, type, mode, uid, gid, mtime, target } = member;
    const meta = { path, type, mode, uid, gid, mtime };
    if (type !== 'file') {
      this.entries.push({ entry: { ...meta, ...(target === undefined ? {} : { target }) } });
      return;
    }
    this.underWay = 0;
    const { parts, ...content } = await this.store(member);
    const entry: IndexEntry = { ...meta, ...content, ...(parts ? { parts: parts.count } : {}) };
    this.contents.remember(entry, this.entries.length);
    this.entries.push({ entry, ...(parts ? { parts } : {}) });
    this.result.files++;
    this.result.bytes += entry.size ?? 0;
    this.underWay = 0;
    this.report(PROGRESS_MS);
  }

  async finish(): Promise<StoredTree> {
    const stored = await this.contents.finish();
    const { index, previous } = this.files;
    index.add(rootOf(this.entries.map(({ entry }) => entry)));
    for (const { entry, parts } of this.entries.sort((a, b) => comparePaths(a.entry.path, b.entry.path))) {
      index.add(entry);
      await index.addParts(parts);
      if (index.full) await index.flush();
    }
    await index.finish();
    const packs = await previous.packs(index.usedPacks, stored);
    await this.close();
    this.report(0);
    return {
      ...this.result,
      entries: this.entries.length + 1,
      newFiles: this.contents.newFiles,
      newBytes: stored.reduce((sum, pack) => sum + pack.size, 0),
      warnings: [...previous.warnings],
      packs,
    };
  }

  async abort(reason: Error): Promise<void> {
    await this.contents.abort(reason);
    await this.close();
  }

  private async close(): Promise<void> {
    await this.contents.close();
    await this.files.abort();
  }

  private async store({ path, size, mtime, content }: TreeMember): Promise<Content> {
    if (size > this.smallFile) return this.contents.storeStream(path, { size, mtime }, content());
    const chunks: Buffer[] = [];
    for await (const chunk of content()) chunks.push(chunk);
    return this.contents.storeBytes(path, Buffer.concat(chunks), mtime);
  }

  private report(minimumMs: number): void {
    const now = Date.now();
    if (now - this.lastProgress < minimumMs) return;
    this.lastProgress = now;
    this.options.progress?.({ done: this.result.bytes + this.underWay, files: this.result.files });
  }
}

/** The line of the root, which the tar does not have: it belongs to the owner of the files, and only to that user. */
function rootOf(entries: readonly IndexEntry[]): IndexEntry {
  const { uid = 0, gid = 0, mtime = 0n } = entries.find(({ type }) => type === 'directory') ?? entries[0] ?? {};
  return { path: '', type: 'directory', mode: 0o700, uid, gid, mtime };
}
