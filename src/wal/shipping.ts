import { LifeboatError } from '../base/errors.ts';
import type { SlotState } from '../sources/postgres/wal/slot.ts';
import type { Confirmed } from '../store/wal/coverage.ts';
import { formatLsn, parseSegmentName, type Segment, segmentAt, startOf } from '../store/wal/names.ts';
import type { LogEnd } from '../store/wal/remembered.ts';
import { type PutOptions, PutReceived } from './put-received.ts';
import { Samples } from './samples.ts';
import { endOfData, listReceived, type ReceivedFiles, removeReceived } from './spool/received-files.ts';
import { TablespaceWatch } from './spool/tablespaces.ts';

/** The most segments that one revision of a page adds. */
export const BATCH = 16;
interface ShippingOptions extends PutOptions {
  /** called when a tablespace was created, before the end */
  onTablespace?(error: LifeboatError): void;
}

/** The result of {@link Shipping.ship}. */
interface Shipped {
  /** complete segments wait for the next call */
  more: boolean;
  /** the end of the stored WAL of the server's timeline; undefined if nothing of it is stored */
  stored?: bigint;
  /** the last time at which everything that the server had written was stored */
  confirmed?: Confirmed;
  /** the newest page of the log; undefined if none is stored yet */
  logged?: LogEnd;
  /** since when the present history of the server is written, ISO time; undefined for the first one */
  since?: string;
  /** number of the first page of that history */
  era: number;
}

/** Stores received WAL in the repository, and removes it from the spool. */
export class Shipping {
  private readonly options: ShippingOptions;
  /** complete segments that create no tablespace, and are not stored yet: a destination may be away for long */
  private readonly scanned = new Set<string>();
  private readonly samples: Samples;
  private readonly put: PutReceived;
  private readonly tablespaces: TablespaceWatch;
  /** why nothing more is stored: a tablespace was created */
  private created: LifeboatError | undefined;

  constructor(options: ShippingOptions) {
    this.options = options;
    this.samples = new Samples(options.segmentSize);
    this.put = new PutReceived(options, this.samples);
    this.tablespaces = new TablespaceWatch(options.directory, options.segmentSize, options.writer);
  }

  /** Notes why the next gap exists; undefined: nobody expects one. */
  expectGap(why: string | undefined): void {
    this.put.why = why;
  }

  /**
   * Stores new history files, at most {@link BATCH} complete segments, and the new part of the open segment.
   *
   * @param alive called for each sign of progress
   * @throws the errors of the destination; LOCKED; WAL_DIVERGED; CLOCK_JUMPED; WAL_GAP for files of nobody's size;
   *   PG_REPLICATION after the WAL before the creation of a tablespace is stored
   */
  async ship(state: SlotState, signal: AbortSignal, alive = () => {}): Promise<Shipped> {
    const { directory, segmentSize, writer } = this.options;
    this.put.alive = alive;
    this.refuseOlder(state);
    await writer.announce();
    this.samples.add(state, writer.inventory.reachedOf(state.timeline));
    const files = await listReceived(directory, segmentSize);
    await this.put.tails.look();
    await this.put.histories(files.histories, signal);
    for (const name of files.left.concat(files.partial ?? [])) await this.shipEnd(name, state, signal);
    for (const name of files.complete) await this.put.tails.prove(name, segmentSize);
    const isStored = (name: string) => writer.inventory.has(name);
    const waiting = files.complete.filter((name) => !isStored(name));
    await this.shipSegments(waiting.slice(0, BATCH), signal);
    // Work that was left alone because it hung may end at any time: the files are those of another connection then.
    signal.throwIfAborted();
    await removeReceived(directory, files, isStored);
    const more = waiting.length > BATCH;
    const { partial } = files;
    if (!more && partial !== undefined && state.slot?.received !== undefined && this.isOn(partial, state)) {
      await this.shipPart(partial, state.slot.received, signal);
    }
    const end = writer.inventory.endOf(state.timeline);
    this.samples.settle(end, state);
    const { confirmed } = this.samples;
    return {
      more,
      ...(end === undefined ? {} : { stored: end }),
      ...(confirmed ? { confirmed } : {}),
      ...(writer.end ? { logged: writer.end } : {}),
      ...(writer.since === undefined ? {} : { since: writer.since }),
      era: writer.era,
    };
  }

  /**
   * Stores everything that was received, without a look at the server: up to the creation of a tablespace, if there was
   * one. Throws like {@link ship}, but not PG_REPLICATION.
   *
   * @returns why the rest is not stored; undefined if everything is
   */
  async shipRest(signal: AbortSignal, alive = () => {}): Promise<LifeboatError | undefined> {
    const { directory, segmentSize, writer } = this.options;
    const files = await listReceived(directory, segmentSize);
    try {
      await this.shipFiles(files, signal, alive);
    } catch (error) {
      if (error !== this.created || error === undefined) throw error;
      files.left = [];
    }
    signal.throwIfAborted();
    await removeReceived(directory, files, (name) => writer.inventory.has(name));
    return this.created;
  }

  private async shipFiles(files: ReceivedFiles, signal: AbortSignal, alive: () => void): Promise<void> {
    const { segmentSize, writer } = this.options;
    this.put.alive = alive;
    await writer.announce();
    await this.put.tails.look();
    await this.put.histories(files.histories, signal);
    const isStored = (name: string) => writer.inventory.has(name);
    const waiting = files.complete.filter((name) => !isStored(name));
    for (const name of waiting) await this.put.tails.prove(name, segmentSize);
    for (let at = 0; at < waiting.length; at += BATCH) await this.shipSegments(waiting.slice(at, at + BATCH), signal);
    for (const name of files.left.concat(files.partial ?? [])) await this.shipToEnd(name, signal);
  }

  /**
   * Refuses a server that is behind the stored WAL of its timeline: an older copy of its data was put in place. From
   * there on it writes other WAL under the same names.
   */
  private refuseOlder({ timeline, flushed }: SlotState): void {
    const end = this.options.writer.inventory.endOf(timeline);
    if (end === undefined || end <= flushed) return;
    throw new LifeboatError(
      'WAL_DIVERGED',
      `the server is at ${formatLsn(flushed)} on timeline ${timeline}, but WAL up to ${formatLsn(end)} is stored`,
    );
  }

  private async shipSegments(names: readonly string[], signal: AbortSignal): Promise<void> {
    const { segmentSize } = this.options;
    for (const [i, name] of names.entries()) {
      if (this.scanned.has(name)) continue;
      const to = await this.tablespaces.find(name, segmentSize);
      if (to === undefined) {
        this.scanned.add(name);
        continue;
      }
      await this.put.segments(names.slice(0, i), signal);
      await this.put.part(name, to, signal);
      throw this.noteTablespace();
    }
    await this.put.segments(names, signal);
    for (const name of names) this.scanned.delete(name);
  }

  private noteTablespace(): LifeboatError {
    this.created ??= new LifeboatError('PG_REPLICATION', 'a tablespace was created, and no recovery gets past that');
    this.options.onTablespace?.(this.created);
    return this.created;
  }

  private isOn(name: string, { timeline }: SlotState): boolean {
    return parseSegmentName(name, this.options.segmentSize)?.timeline === timeline;
  }

  /** Stores the rest of an incomplete segment on a timeline that the server has left: nothing more of it comes. */
  private async shipEnd(name: string, state: SlotState, signal: AbortSignal): Promise<void> {
    const at = parseSegmentName(name, this.options.segmentSize) as Segment;
    if (at.timeline !== state.timeline) await this.shipToEnd(name, signal);
  }

  private async shipToEnd(name: string, signal: AbortSignal): Promise<void> {
    const { directory, segmentSize, writer } = this.options;
    const at = parseSegmentName(name, segmentSize) as Segment;
    if (writer.inventory.has(name)) return;
    const end = startOf(at.number, segmentSize) + BigInt(await endOfData(directory, name, segmentSize));
    if (end > (writer.inventory.endOf(at.timeline) ?? 0n)) await this.shipPart(name, end, signal);
  }

  private async shipPart(name: string, received: bigint, signal: AbortSignal): Promise<void> {
    const { segmentSize } = this.options;
    const at = parseSegmentName(name, segmentSize) as Segment;
    // The slot says how much of which segment is on the disk. Beyond that, the file holds zeros or old bytes.
    if (segmentAt(received, segmentSize) !== at.number) return;
    const to = Number(received - startOf(at.number, segmentSize));
    const created = await this.tablespaces.find(name, to);
    await this.put.part(name, created ?? to, signal);
    if (created !== undefined) throw this.noteTablespace();
  }
}
