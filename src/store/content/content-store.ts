import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { LifeboatError } from '../../base/errors.ts';
import { type ChunkedReading, readPart } from '../chunks/chunked-reading.ts';
import { Cutters } from '../chunks/cutters.ts';
import type { FileStat } from '../filesystem/file-stat.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { decodePart, encodePart } from '../filesystem/index-part.ts';
import { LargeFile } from '../filesystem/large-file.ts';
import { shortPath, type TreePath } from '../filesystem/path.ts';
import { failedRead, type SmallRead, sameVersion } from '../filesystem/read-file.ts';
import { ReadPool } from '../filesystem/read-pool.ts';
import type { PackContent, PackRef } from '../packs/pack-stream.ts';
import { type Content, type Former, KnownContents, type PartLines, type Placed } from './known.ts';
import { type LineLog, type Lines, readRange } from './line-log.ts';
import { PackWriter, type PackWriterOptions } from './pack-writer.ts';
import type { PreviousIndex } from './previous-index.ts';

/** Files up to this size are read and stored whole; a larger file is stored in parts. Bytes. */
export const SMALL_FILE = 8 * 1024 * 1024;

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
  index: Lines;
  /** for the lines of parts; the caller removes it */
  parts: LineLog;
  previous: PreviousIndex;
  /** called with the number of bytes as a large file is read */
  heard: (bytes: number) => void;
}

/**
 * Stores the content of files, each content once: content that the previous or the current index names already is only
 * referenced. The same holds for each part of a large file.
 */
export class ContentStore {
  /** number of files whose content was not known */
  newFiles = 0;
  private newParts = 0;
  private readonly previous: PreviousIndex;
  private readonly known: KnownContents;
  private knownLoaded = false;
  private readonly writer: PackWriter;
  private readonly parts: LineLog;
  private readonly pool: ReadPool;
  private readonly cutters: Cutters;
  private readonly smallFile: number;
  private readonly newPacks = new Set<string>();
  private readonly usable: (pack: string) => boolean;
  private readonly signal: AbortSignal | undefined;
  private readonly heard: (bytes: number) => void;

  constructor({ packs, smallFile, index, parts, previous, heard }: ContentStoreOptions) {
    this.smallFile = smallFile;
    this.parts = parts;
    this.heard = heard;
    this.pool = new ReadPool(smallFile);
    this.previous = previous;
    this.signal = packs.signal;
    this.cutters = new Cutters({ heard, signal: packs.signal });
    this.writer = new PackWriter(packs);
    this.usable = (pack) => this.newPacks.has(pack) || previous.usable(pack);
    this.known = new KnownContents({ current: index, parts, usable: this.usable, table: previous.table });
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

  /**
   * Stores a large file, and starts over once if it changes meanwhile. If the file is still as `former` says, only
   * those parts are read whose packs cannot be used.
   */
  async storeLarge(path: TreePath, absolute: Buffer, former?: Former): Promise<StoredFile> {
    let file: LargeFile;
    try {
      file = await LargeFile.open(absolute);
    } catch (error) {
      return failedRead(error);
    }
    try {
      if (!file.isAt(absolute)) return { outcome: 'vanished' };
      const before = this.newParts;
      const stored = (former && (await this.renew(file, former))) ??
        (await this.storeOpen(path, absolute, file, false)) ??
        (await this.storeOpen(path, absolute, file, true)) ?? { outcome: 'vanished' };
      if (this.newParts > before && stored.outcome === 'stored') this.newFiles++;
      return stored;
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

  /** Stores a large file that arrives once, as a stream of `size` bytes, in parts. */
  async storeStream(
    path: TreePath,
    { size, mtime }: { size: number; mtime: bigint },
    stream: AsyncIterable<Buffer>,
  ): Promise<Content> {
    const before = this.newParts;
    const chunks = async function* () {
      yield* stream;
    };
    const reading = this.cutters.read({ chunks }, { size, ranges: undefined });
    const parts = await this.storeParts(reading, mtime);
    if (reading.content.size !== size)
      throw new LifeboatError('TREE_UNREADABLE', `${shortPath(path)} ended after ${reading.content.size} B of ${size}`);
    if (this.newParts > before) this.newFiles++;
    return { ...reading.content, parts };
  }

  /** Makes the content of an index line findable for the rest of the run. */
  remember(entry: IndexEntry, offset: number): void {
    // The table has the contents of all other packs.
    const isInTable = this.previous.table && entry.pack !== undefined && !this.newPacks.has(entry.pack);
    if (!isInTable) this.known.add(entry, offset);
  }

  async finish(): Promise<PackRef[]> {
    return this.writer.finish();
  }

  abort(reason: Error): Promise<void> {
    return this.writer.abort(reason);
  }

  async close(): Promise<void> {
    await this.pool.close();
    await this.cutters.close();
    await this.known.close();
  }

  private async place(path: TreePath, content: PackContent, sha256: string): Promise<Placed> {
    await this.loadKnown();
    const found = await this.known.find({ sha256, size: content.bytes.length });
    if (found) return found;
    const placed = await this.writer.add(path, content);
    this.newPacks.add(placed.pack);
    this.newFiles++;
    return placed;
  }

  /**
   * Returns undefined if the file changed meanwhile. The parts that were stored remain in their packs: the next attempt
   * finds most of them there. The last attempt stores the file and flags it.
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
    const reading = this.cutters.read(file, { size: before.size, ranges });
    try {
      const parts = await this.storeParts(reading, before.mtime);
      const after = await file.stat();
      const changed = !sameVersion(before, after);
      if (changed && !last) return undefined;
      const content = { ...reading.content, ...(parts.count > 0 && { parts }) };
      return { outcome: 'stored', content, stat: after, changed };
    } catch (error) {
      if (error !== reading.error || this.signal?.aborted) throw error;
      return failedRead(error);
    }
  }

  /** Stores those parts of a file again whose packs cannot be used. Undefined if the file has changed after all. */
  private async renew(file: LargeFile, { content, stat: seen }: Former): Promise<StoredFile | undefined> {
    const before = await file.stat();
    const { parts: former } = content;
    if (!former || !sameVersion(seen, before)) return undefined;
    await this.loadKnown();
    const { path, end: from } = this.parts;
    const known = this.newParts;
    for await (const line of readRange(former)) {
      const { offset, size, sha256, ...place } = decodePart(line);
      let placed = this.usable(place.pack) ? place : await this.known.findPart({ sha256, size });
      if (!placed) {
        const bytes = await readPart(file, { offset, size, sha256 }, this.signal);
        if (!bytes) return undefined;
        this.heard(size);
        placed = await this.addPart(bytes, before.mtime, this.newParts === known);
      }
      this.known.addPart(sha256, this.parts.add(encodePart({ offset, size, sha256, ...placed })));
      if (this.parts.full) await this.parts.flush();
    }
    await this.parts.flush();
    if (!sameVersion(before, await file.stat())) return undefined;
    const parts = { file: path, from, to: this.parts.end, count: former.count };
    return { outcome: 'stored', content: { ...content, parts }, stat: before, changed: false };
  }

  private async storeParts(reading: ChunkedReading, mtime: bigint): Promise<PartLines> {
    await this.loadKnown();
    const { path: file, end: from } = this.parts;
    let count = 0;
    let isNew = false;
    for await (const { offset, sha256, size, bytes } of reading.chunks()) {
      const found = await this.known.findPart({ sha256, size });
      const placed = found ?? (await this.addPart(bytes(), mtime, !isNew));
      const at = this.parts.add(encodePart({ offset, size, sha256, ...placed }));
      if (!found) {
        isNew = true;
        this.known.addPart(sha256, at);
      }
      if (this.parts.full) await this.parts.flush();
      count++;
    }
    await this.parts.flush();
    return { file, from, to: this.parts.end, count };
  }

  private async addPart(bytes: Buffer, mtime: bigint, isFirst: boolean): Promise<Placed> {
    const placed = await this.writer.addPart({ bytes, crc32: crc32(bytes), mtime }, isFirst);
    this.newPacks.add(placed.pack);
    this.newParts++;
    return placed;
  }

  /** Loads the table on first use: an unchanged tree needs none. */
  private async loadKnown(): Promise<void> {
    if (this.knownLoaded) return;
    this.knownLoaded = true;
    const { path, isCovered } = this.previous;
    if (path && !isCovered) await this.known.loadPrevious(path).catch((error) => this.previous.distrust(error));
  }
}
