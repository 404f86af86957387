import { randomBytes } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { LifeboatError } from '../../base/errors.ts';
import { readRangeOf } from '../../base/read-range.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { fetchFile } from '../objects/objects.ts';
import { isPlain } from '../seal/seal.ts';
import { BlockCache, type ByteSource, damagedPack as damaged } from './block-cache.ts';
import { ForwardReader } from './forward-reader.ts';
import type { PackRef } from './pack-stream.ts';

/** An entry of a pack's directory. It is not trusted before the content's hash was compared. */
interface DirectoryEntry {
  offset: number;
  size: number;
}

const LOCAL_HEADER_SIZE = 30;
const LOCAL_HEADER = 0x04034b50;
const DIRECTORY_RECORD_SIZE = 46;
/** The records that end every pack: zip64 end (56), its locator (20), end (22), and no comment. */
const END_SIZE = 98;
/** More records than any pack has. The limit protects memory: the library needs more for a record than its bytes. */
const MAX_RECORDS = 65_536n;
/** No directory is longer, bytes: 4,096 names of the greatest length, percent-encoded. It is read into memory. */
const MAX_DIRECTORY = 64n * 1024n * 1024n;

interface Opened {
  id: string;
  source: ByteSource;
  blocks: BlockCache;
  entries: Map<string, DirectoryEntry>;
  spooled: FileHandle | undefined;
}

/**
 * An opened pack. A compressed or encrypted pack is first fetched to the spool and checked against the hash in the
 * manifest. A plain pack is read at the destination, in ranges of some MiB that many small contents share.
 */
export class PackReader {
  private readonly id: string;
  private readonly source: ByteSource;
  private readonly blocks: BlockCache;
  private readonly entries: Map<string, DirectoryEntry>;
  private readonly spooled: FileHandle | undefined;

  private constructor({ id, source, blocks, entries, spooled }: Opened) {
    this.id = id;
    this.source = source;
    this.blocks = blocks;
    this.entries = entries;
    this.spooled = spooled;
  }

  /**
   * Opens a pack.
   *
   * @param options `spool`: a directory for the zip of a compressed or encrypted pack, at most `pack.plainSize` bytes,
   * until {@link close}
   * @throws OBJECT_MISSING, OBJECT_DAMAGED, KEY_MISSING, KEY_WRONG
   */
  static async open(
    destination: Destination,
    pack: PackRef,
    options: { spool: string; keys: SealKeys; signal?: AbortSignal | undefined },
  ): Promise<PackReader> {
    const { signal, keys } = options;
    if (isPlain(pack.key)) {
      const stream = (start: number, end: number) =>
        destination.get(pack.key, { range: { start, end }, ...(signal ? { signal } : {}) }) as Promise<
          AsyncIterable<Buffer>
        >;
      return PackReader.of(pack.id, { size: pack.size, stream });
    }
    const file = join(options.spool, `pack-${randomBytes(8).toString('hex')}.zip`);
    try {
      await fetchFile(destination, pack, file, { keys, signal, maxSize: pack.plainSize });
      const zip = await open(file, 'r');
      const stream = async (start: number, end: number) => readRangeOf(zip.fd, start, end - start);
      return await PackReader.of(pack.id, { size: pack.plainSize, stream }, zip);
    } finally {
      // The zip can be read until it is closed. A process that dies leaves nothing behind.
      await unlink(file).catch(() => {});
    }
  }

  private static async of(id: string, source: ByteSource, spooled?: FileHandle): Promise<PackReader> {
    try {
      const blocks = new BlockCache(id, source);
      const entries = await readDirectory(id, source.size, blocks);
      return new PackReader({ id, source, blocks, entries, spooled });
    } catch (error) {
      await spooled?.close();
      throw error;
    }
  }

  /** Reads one content. `size` is its size in the index, bytes. The caller compares the bytes with the index. */
  async read(entry: string, size: number): Promise<Buffer> {
    const start = await this.locate(entry, size);
    return this.blocks.read(start, start + size);
  }

  /**
   * Yields contents in pieces. If the contents are in the order of the pack, a single request reads them all. `at`: the
   * offset of the piece in its content. A piece is valid only until the next one is requested.
   */
  async *stream<T extends { entry: string; size: number }>(
    contents: AsyncIterable<T>,
  ): AsyncGenerator<{ content: T; at: number; bytes: Buffer }> {
    const reader = new ForwardReader(this.source);
    try {
      for await (const content of contents) {
        const offset = this.offsetOf(content.entry, content.size);
        const header: Buffer[] = [];
        for await (const piece of reader.read(offset, offset + LOCAL_HEADER_SIZE)) header.push(Buffer.from(piece));
        const start = offset + localHeaderLength(this.id, Buffer.concat(header));
        let at = 0;
        for await (const bytes of reader.read(start, start + content.size)) {
          yield { content, at, bytes };
          at += bytes.length;
        }
        if (at < content.size) throw damaged(this.id, 'it ends too early');
      }
    } finally {
      await reader.close();
    }
  }

  /** Frees the memory of what was read. It can be read again. */
  forget(): void {
    this.blocks.clear();
  }

  /** Frees the space of the spooled zip. */
  async close(): Promise<void> {
    await this.spooled?.close();
  }

  private async locate(entry: string, size: number): Promise<number> {
    const offset = this.offsetOf(entry, size);
    return offset + localHeaderLength(this.id, await this.blocks.read(offset, offset + LOCAL_HEADER_SIZE));
  }

  /** Returns the offset of the local header of a content. */
  private offsetOf(entry: string, size: number): number {
    const found = this.entries.get(entry);
    if (!found) throw damaged(this.id, 'a content is missing');
    if (found.size !== size) throw damaged(this.id, 'a content has another size than the index says');
    return found.offset;
  }
}

/** Returns the length of a local header including name and extra field, from its fixed part. */
function localHeaderLength(id: string, header: Buffer): number {
  if (header.length < LOCAL_HEADER_SIZE) throw damaged(id, 'it ends too early');
  const plain = header.readUInt32LE(0) === LOCAL_HEADER && (header.readUInt16LE(6) & 1) === 0;
  if (!plain || header.readUInt16LE(8) !== 0) throw damaged(id, 'an entry has an unexpected header');
  return LOCAL_HEADER_SIZE + header.readUInt16LE(26) + header.readUInt16LE(28);
}

/**
 * Parses a pack's directory with the library. Reads it into memory first: the library ignores errors of its streams.
 */
async function readDirectory(id: string, size: number, blocks: BlockCache): Promise<Map<string, DirectoryEntry>> {
  const start = await findDirectory(id, size, blocks);
  const tail = await blocks.read(start, size);
  const source = {
    size: async () => size,
    // The library reads from an offset, with a length or to the end.
    stream: (offset: number, length?: number) =>
      Readable.from([
        tail.subarray(Math.max(0, offset - start), length ? Math.max(0, offset - start + length) : undefined),
      ]),
  };
  const entries = new Map<string, DirectoryEntry>();
  try {
    // Only restores need the library, so it is loaded here.
    const { Open } = await import('unzipper');
    const directory = await Open.custom(source);
    for (const file of await directory.files) {
      if (entries.has(file.path)) throw damaged(id, 'two entries have the same name');
      entries.set(file.path, { offset: file.offsetToLocalFileHeader, size: file.uncompressedSize });
    }
  } catch (error) {
    throw error instanceof LifeboatError ? error : damaged(id, 'its directory cannot be read', error);
  }
  return entries;
}

/**
 * Returns the offset of a pack's directory. Checks the zip's end records before the library reads them, because the
 * library allocates an array of the length that they claim.
 */
async function findDirectory(id: string, size: number, blocks: BlockCache): Promise<number> {
  if (size < END_SIZE) throw damaged(id, 'it is too short');
  const end = await blocks.read(size - END_SIZE, size);
  const marks = [end.readUInt32LE(0), end.readUInt32LE(56), end.readUInt32LE(76)];
  const records = end.readBigUInt64LE(32);
  const length = end.readBigUInt64LE(40);
  const offset = end.readBigUInt64LE(48);
  const whole =
    marks.join() === [0x06064b50, 0x07064b50, 0x06054b50].join() &&
    end.readBigUInt64LE(64) === BigInt(size - END_SIZE) &&
    end.readUInt16LE(96) === 0 &&
    offset + length === BigInt(size - END_SIZE) &&
    records <= MAX_RECORDS &&
    length <= MAX_DIRECTORY &&
    records * BigInt(DIRECTORY_RECORD_SIZE) <= length;
  if (!whole) throw damaged(id, 'its end records are wrong');
  return Number(offset);
}
