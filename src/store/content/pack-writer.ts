import { randomBytes } from 'node:crypto';
import { entryName, type TreePath } from '../filesystem/path.ts';
import { type PackContent, type PackRef, PackStream, type PackStreamOptions } from '../packs/pack-stream.ts';
import type { Placed } from './known.ts';

/** Where to write packs. `prefix` is the part of their names before `<xx>/<id>`, ending in a slash. */
export type PackWriterOptions = Omit<PackStreamOptions, 'id' | 'key' | 'expectedSize'> & { prefix: string };

/** A pack is closed when it holds this many bytes of content, */
const PACK_SIZE = 64 * 1024 * 1024;
/** or this many files: readers hold the directory of a pack in memory. */
const PACK_ENTRIES = 4096;
/** Size of the sample that decides whether a pack is compressed, bytes. */
const SAMPLE_SIZE = 256 * 1024;

interface Waiting {
  entry: string;
  content: PackContent;
}

/** The pack being filled. Its zip starts once there is enough content for a sample. */
interface Filling {
  id: string;
  bytes: number;
  entries: number;
  waiting: Waiting[];
  stream?: PackStream;
}

/**
 * Writes content into packs, and packs to the destination. Pack IDs are chosen first, so an index line can name its
 * pack before the pack is stored. The index is not valid until {@link PackWriter.finish} resolves.
 */
export class PackWriter {
  private readonly options: PackWriterOptions;
  private readonly refs: PackRef[] = [];
  private filling: Filling | undefined;
  /** the one pack that is complete but not stored yet while the next one is filled */
  private finishing: { stream: PackStream; stored: Promise<PackRef> } | undefined;

  constructor(options: PackWriterOptions) {
    this.options = options;
  }

  /** Adds the content of a small file. */
  async add(path: TreePath, content: PackContent): Promise<Placed> {
    if (!this.filling) this.filling = { id: newPackId(), bytes: 0, entries: 0, waiting: [] };
    const filling = this.filling;
    const placed = { pack: filling.id, entry: entryName(path) };
    filling.bytes += content.bytes.length;
    filling.entries++;
    if (filling.stream) await filling.stream.append(placed.entry, content);
    else {
      filling.waiting.push({ entry: placed.entry, content });
      if (filling.bytes >= SAMPLE_SIZE) await this.begin(filling);
    }
    if (filling.bytes >= PACK_SIZE || filling.entries >= PACK_ENTRIES) await this.close();
    return placed;
  }

  /**
   * Stores a large file as a pack of its own. `keep` is called after the last byte, before the pack is complete. If it
   * returns false, the pack is abandoned and nothing of it is stored. `size` is the expected size in bytes.
   */
  async addLarge(
    path: TreePath,
    chunks: AsyncGenerator<Buffer>,
    { mtime, size }: { mtime: bigint; size: number },
    keep: () => Promise<boolean>,
  ): Promise<Placed | undefined> {
    const placed = { pack: newPackId(), entry: entryName(path) };
    const { first, all } = await peek(chunks);
    const stream = this.startStream(placed.pack, first.subarray(0, SAMPLE_SIZE), size);
    try {
      await stream.appendChunks(placed.entry, all, mtime);
      if (await keep()) {
        await this.complete(stream);
        return placed;
      }
      await stream.abandon(new Error('the file changed while it was read'));
      return undefined;
    } catch (error) {
      await stream.abandon(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  }

  /** Waits until everything is stored, and returns the packs. */
  async finish(): Promise<PackRef[]> {
    await this.close();
    await this.awaitStored();
    return this.refs;
  }

  /** Abandons unfinished packs. Stored packs stay: the object log names them. */
  async abort(reason: Error): Promise<void> {
    await Promise.all([this.filling?.stream?.abandon(reason), this.finishing?.stream.abandon(reason)]);
    this.filling = undefined;
    this.finishing = undefined;
  }

  private startStream(id: string, sample: Buffer, expectedSize?: number): PackStream {
    const { prefix, ...rest } = this.options;
    return new PackStream({ ...rest, id, key: `${prefix}${id.slice(0, 2)}/${id}.zip`, expectedSize }, sample);
  }

  private async begin(filling: Filling): Promise<PackStream> {
    const sample = Buffer.concat(filling.waiting.map(({ content }) => content.bytes)).subarray(0, SAMPLE_SIZE);
    const stream = this.startStream(filling.id, sample);
    filling.stream = stream;
    for (const { entry, content } of filling.waiting) await stream.append(entry, content);
    filling.waiting = [];
    return stream;
  }

  private async close(): Promise<void> {
    const filling = this.filling;
    if (!filling) return;
    const stream = filling.stream ?? (await this.begin(filling));
    await this.complete(stream);
    this.filling = undefined;
  }

  /**
   * Completes a pack. It is stored while the next one is filled. Only one pack at a time, because each takes memory.
   */
  private async complete(stream: PackStream): Promise<void> {
    await this.awaitStored();
    const stored = stream.finish();
    // The error is reported by awaitStored(), which every further step calls.
    stored.catch(() => {});
    this.finishing = { stream, stored };
  }

  private async awaitStored(): Promise<void> {
    if (!this.finishing) return;
    this.refs.push(await this.finishing.stored);
    this.finishing = undefined;
  }
}

/** 128 random bits, as 32 hex digits. */
function newPackId(): string {
  return randomBytes(16).toString('hex');
}

async function peek(chunks: AsyncGenerator<Buffer>): Promise<{ first: Buffer; all: AsyncGenerator<Buffer> }> {
  const { value, done } = await chunks.next();
  const first = done ? Buffer.alloc(0) : value;
  async function* all(): AsyncGenerator<Buffer> {
    if (!done) yield first;
    yield* chunks;
  }
  return { first, all: all() };
}
