import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { storedSize } from '../filesystem/data-ranges.ts';
import type { FileStat } from '../filesystem/file-stat.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { LargeFile } from '../filesystem/large-file.ts';
import type { TreePath } from '../filesystem/path.ts';
import { failedRead, type SmallRead, sameVersion } from '../filesystem/read-file.ts';
import { ReadPool } from '../filesystem/read-pool.ts';
import type { PackContent, PackRef } from '../packs/pack-stream.ts';
import { HashedReading } from './hashed-reading.ts';
import type { IndexLines, Placed, Wanted } from './known.ts';
import { KnownContents } from './known.ts';
import { PackWriter, type PackWriterOptions } from './pack-writer.ts';
import type { PreviousIndex } from './previous-index.ts';

/** Files up to this size share packs and are read whole; a larger file gets a pack of its own. Bytes. */
export const SMALL_FILE = 16 * 1024 * 1024;

/** The part of an index line that describes content. */
export type Content = Wanted & { sqlite?: string } & Partial<Placed>;

/** The result of storing one file. `stat` dates from when the content was read. */
export type StoredFile =
  | { outcome: 'stored'; content: Content; stat: FileStat; changed: boolean }
  | { outcome: 'vanished' }
  | { outcome: 'unreadable'; error: Error };

interface ContentStoreOptions {
  packs: PackWriterOptions;
  /** files up to this size are read whole, bytes */
  smallFile: number;
  /** the index being written */
  index: IndexLines;
  previous: PreviousIndex;
  /** called with the number of bytes as a large file is read */
  heard: (bytes: number) => void;
}

/**
 * Stores the content of files, each content once: content that the previous or the current index names already is only
 * referenced.
 */
export class ContentStore {
  /** number of files whose content was not known */
  newFiles = 0;
  private readonly previous: PreviousIndex;
  private readonly known: KnownContents;
  private knownLoaded = false;
  private readonly writer: PackWriter;
  private readonly pool: ReadPool;
  private readonly smallFile: number;
  private readonly newPacks = new Set<string>();
  private readonly signal: AbortSignal | undefined;
  private readonly heard: (bytes: number) => void;

  constructor({ packs, smallFile, index, previous, heard }: ContentStoreOptions) {
    this.smallFile = smallFile;
    this.heard = heard;
    this.pool = new ReadPool(smallFile);
    this.previous = previous;
    this.signal = packs.signal;
    this.writer = new PackWriter(packs);
    this.known = new KnownContents(index, (pack) => this.newPacks.has(pack) || previous.usable(pack), smallFile);
  }

  /** Starts to read a small file. */
  read(absolute: Buffer, size: number): Promise<SmallRead> {
    return this.pool.read(absolute, size);
  }

  /** Stores a small file that was read, or a large file if it has grown since. */
  async store(path: TreePath, absolute: Buffer, read: SmallRead): Promise<StoredFile> {
    if (read.outcome === 'large') return this.storeLarge(path, absolute);
    if (read.outcome !== 'read') return read;
    const { sha256, crc32, stat, changed } = read;
    const { buffer, byteOffset, byteLength } = read.content;
    const content = { bytes: Buffer.from(buffer, byteOffset, byteLength), crc32, mtime: stat.mtime };
    const placed = byteLength > 0 ? await this.place(path, content, sha256) : undefined;
    return { outcome: 'stored', content: { size: byteLength, sha256, ...placed }, stat, changed };
  }

  /** Stores a large file, and starts over once if it changes meanwhile. */
  async storeLarge(path: TreePath, absolute: Buffer): Promise<StoredFile> {
    let file: LargeFile;
    try {
      file = await LargeFile.open(absolute);
    } catch (error) {
      return failedRead(error);
    }
    try {
      if (!file.isAt(absolute)) return { outcome: 'vanished' };
      const first = await this.storeOpen(path, absolute, file, false);
      return first ?? (await this.storeOpen(path, absolute, file, true)) ?? { outcome: 'vanished' };
    } finally {
      await file.close();
    }
  }

  /** Stores content that is in memory. */
  async storeBytes(path: TreePath, bytes: Buffer, mtime: bigint): Promise<Content> {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const content = { bytes, crc32: crc32(bytes), mtime };
    const placed = bytes.length > 0 ? await this.place(path, content, sha256) : undefined;
    return { size: bytes.length, sha256, ...placed };
  }

  /** Stores a large file that arrives once, as a stream of `size` bytes. */
  async storeStream(
    path: TreePath,
    { size, mtime }: { size: number; mtime: bigint },
    content: AsyncIterable<Buffer>,
  ): Promise<Content> {
    await this.loadKnown();
    const hash = createHash('sha256');
    const heard = this.heard;
    async function* hashed(): AsyncGenerator<Buffer> {
      for await (const chunk of content) {
        hash.update(chunk);
        heard(chunk.length);
        yield chunk;
      }
    }
    let sha256 = '';
    let found: Placed | undefined;
    const placed = await this.writer.addLarge(path, hashed(), { size, mtime }, async () => {
      sha256 = hash.digest('hex');
      found = await this.known.find({ sha256, size });
      return found === undefined;
    });
    return { size, sha256, ...(placed ? this.isNew(placed) : found) };
  }

  /** Makes the content of an index line findable for the rest of the run. */
  remember(entry: IndexEntry, offset: number): void {
    this.known.add(entry, offset);
  }

  async finish(): Promise<PackRef[]> {
    return this.writer.finish();
  }

  abort(reason: Error): Promise<void> {
    return this.writer.abort(reason);
  }

  async close(): Promise<void> {
    await this.pool.close();
    await this.known.close();
  }

  private async place(path: TreePath, content: PackContent, sha256: string): Promise<Placed> {
    await this.loadKnown();
    const found = await this.known.find({ sha256, size: content.bytes.length });
    if (found) return found;
    return this.isNew(await this.writer.add(path, content));
  }

  /**
   * Returns undefined if the file changed meanwhile and nothing was stored. The last attempt stores the file and flags
   * it.
   */
  private async storeOpen(
    path: TreePath,
    absolute: Buffer,
    file: LargeFile,
    last: boolean,
  ): Promise<StoredFile | undefined> {
    const before = await file.stat();
    if (before.type !== 'file') return { outcome: 'vanished' };
    if (before.size <= this.smallFile) return this.store(path, absolute, await this.read(absolute, before.size));
    const ranges = await file.dataRanges(before);
    const reading = new HashedReading(file, { size: before.size, ranges }, this.heard, this.signal);
    try {
      const known = await this.findLarge(before, file, reading);
      if (known) return { outcome: 'stored', content: known, stat: before, changed: false };
      let after = before;
      const expected = { mtime: before.mtime, size: storedSize({ size: before.size, ...(ranges && { ranges }) }) };
      const placed = await this.writer.addLarge(path, reading.chunks(), expected, async () => {
        after = await file.stat();
        return storedSize(reading.content) > 0 && (last || sameVersion(before, after));
      });
      if (!placed && !last && !sameVersion(before, after)) return undefined;
      const content = { ...reading.content, ...(placed && this.isNew(placed)) };
      return { outcome: 'stored', content, stat: after, changed: !sameVersion(before, after) };
    } catch (error) {
      if (error !== reading.error || this.signal?.aborted) throw error;
      return failedRead(error);
    }
  }

  /** Reads a large file for its hash alone if known content has the same size. */
  private async findLarge(before: FileStat, file: LargeFile, reading: HashedReading): Promise<Content | undefined> {
    await this.loadKnown();
    if (!this.known.mayHaveSize(before.size)) return undefined;
    for await (const _ of reading.chunks()) {
      // Only the hash is needed.
    }
    if (!sameVersion(before, await file.stat())) return undefined;
    const found = await this.known.find(reading.content);
    return found && { ...reading.content, ...found };
  }

  private isNew(placed: Placed): Placed {
    this.newPacks.add(placed.pack);
    this.newFiles++;
    return placed;
  }

  /** Loads the table on first use: an unchanged tree needs none. */
  private async loadKnown(): Promise<void> {
    if (this.knownLoaded) return;
    this.knownLoaded = true;
    const path = this.previous.path;
    if (path === undefined) return;
    await this.known.loadPrevious(path).catch((error) => this.previous.distrust(error));
  }
}
