import { randomBytes } from 'node:crypto';
import { entryName, type TreePath } from '../filesystem/path.ts';
import {
  isCompressible,
  type PackContent,
  type PackRef,
  PackStream,
  type PackStreamOptions,
  SAMPLE_SIZE,
} from '../packs/pack-stream.ts';
import type { Placed } from './known.ts';

/** Where to write packs. `prefix` is the part of their names before `<xx>/<id>`, ending in a slash. */
export type PackWriterOptions = Omit<PackStreamOptions, 'id' | 'key'> & { prefix: string };

/** A pack is closed when it holds this many bytes of content, */
const PACK_SIZE = 64 * 1024 * 1024;
/** or this many contents: readers hold the directory of a pack in memory. */
const PACK_ENTRIES = 4096;

/**
 * A pack holds either whole files or parts of large files, because their names could collide. Parts go into one of two
 * packs: a file decides by its first part whether its parts are worth compressing. If text and media alternated in one
 * pack, each change between them would have to end it, and thousands of files would make thousands of packs.
 */
type Kind = 'files' | 'compressed parts' | 'plain parts';

interface Waiting {
  entry: string;
  content: PackContent;
}

/** A pack being filled. Its zip starts once there is enough content for a sample. */
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
  private readonly filling = new Map<Kind, Filling>();
  /** where the parts of the present file go */
  private partsKind: Kind = 'plain parts';
  /** the one pack that is complete but not stored yet while the next one is filled */
  private finishing: { stream: PackStream; stored: Promise<PackRef> } | undefined;

  constructor(options: PackWriterOptions) {
    this.options = options;
  }

  /** Adds the content of a small file. */
  add(path: TreePath, content: PackContent): Promise<Placed> {
    return this.put('files', content, () => entryName(path));
  }

  /**
   * Adds a part of a large file. `isFirst`: the first one of its file, see {@link Kind}.
   */
  async addPart(content: PackContent, isFirst: boolean): Promise<Placed> {
    if (isFirst) this.partsKind = isCompressible(content.bytes) ? 'compressed parts' : 'plain parts';
    return this.put(this.partsKind, content, ({ entries }) => String(entries));
  }

  /** Waits until everything is stored, and returns the packs. */
  async finish(): Promise<PackRef[]> {
    for (const kind of [...this.filling.keys()]) await this.close(kind);
    await this.awaitStored();
    return this.refs;
  }

  /** Abandons unfinished packs. Stored packs stay: the object log names them. */
  async abort(reason: Error): Promise<void> {
    const streams = [...[...this.filling.values()].map(({ stream }) => stream), this.finishing?.stream];
    await Promise.all(streams.map((stream) => stream?.abandon(reason)));
    this.filling.clear();
    this.finishing = undefined;
  }

  private async put(kind: Kind, content: PackContent, name: (filling: Filling) => string): Promise<Placed> {
    const filling = this.filling.get(kind) ?? { id: newPackId(), bytes: 0, entries: 0, waiting: [] };
    this.filling.set(kind, filling);
    const placed = { pack: filling.id, entry: name(filling) };
    filling.bytes += content.bytes.length;
    filling.entries++;
    if (filling.stream) await filling.stream.append(placed.entry, content);
    else {
      filling.waiting.push({ entry: placed.entry, content });
      if (filling.bytes >= SAMPLE_SIZE) await this.begin(kind, filling);
    }
    if (filling.bytes >= PACK_SIZE || filling.entries >= PACK_ENTRIES) await this.close(kind);
    return placed;
  }

  private async begin(kind: Kind, filling: Filling): Promise<PackStream> {
    const { prefix, ...rest } = this.options;
    const { id, waiting } = filling;
    const sample = () => Buffer.concat(waiting.map(({ content }) => content.bytes));
    const isCompressed = kind === 'files' ? isCompressible(sample()) : kind === 'compressed parts';
    const stream = new PackStream({ ...rest, id, key: `${prefix}${id.slice(0, 2)}/${id}.zip` }, isCompressed);
    filling.stream = stream;
    for (const { entry, content } of waiting) await stream.append(entry, content);
    filling.waiting = [];
    return stream;
  }

  private async close(kind: Kind): Promise<void> {
    const filling = this.filling.get(kind);
    if (!filling) return;
    const stream = filling.stream ?? (await this.begin(kind, filling));
    await this.complete(stream);
    this.filling.delete(kind);
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
