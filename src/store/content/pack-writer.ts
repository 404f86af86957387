import { randomBytes } from 'node:crypto';
import { entryName, type TreePath } from '../filesystem/path.ts';
import { type PackContent, type PackRef, PackStream, type PackStreamOptions } from '../packs/pack-stream.ts';
import type { Placed } from './known.ts';

/** Where packs go. `prefix` is the part of their names before `<xx>/<id>`, ending in a slash. */
export type PackWriterOptions = Omit<PackStreamOptions, 'id' | 'key' | 'expectedSize'> & { prefix: string };

/** A pack is closed when it holds that many bytes of content, */
const PACK_SIZE = 64 * 1024 * 1024;
/** or that many files: readers hold a pack's directory in memory. */
const PACK_ENTRIES = 4096;
/** How much of a pack's content is looked at to decide whether to compress it. */
const SAMPLE_SIZE = 256 * 1024;

interface Waiting {
  entry: string;
  content: PackContent;
}

/** The pack being filled. Its zip is started when the sample is large enough. */
interface Filling {
  id: string;
  bytes: number;
  entries: number;
  waiting: Waiting[];
  stream?: PackStream;
}

/**
 * Puts contents into packs and packs to the destination. Ids are chosen first, so that an index line can name its pack
 * before the pack is stored; the index counts for nothing until {@link PackWriter.finish} resolved.
 */
export class PackWriter {
  private readonly options: PackWriterOptions;
  private readonly refs: PackRef[] = [];
  private filling: Filling | undefined;
  /** the one pack that is complete but not stored yet, while the next is being filled */
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
   * Stores a large file as a pack of its own. `keep` is asked after its last byte, before the pack is complete: when it
   * says no, the pack is given up and nothing of it is stored. `size` is about what it will be, in bytes.
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
    await this.settle();
    return this.refs;
  }

  /** Gives up what is not stored yet. Packs that are stored stay: the object log names them. */
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

  /** Ends a pack. It is stored while the next one is filled; more than one in that state would cost memory. */
  private async complete(stream: PackStream): Promise<void> {
    await this.settle();
    const stored = stream.finish();
    // Reported by settle(), which every further step passes.
    stored.catch(() => {});
    this.finishing = { stream, stored };
  }

  private async settle(): Promise<void> {
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
