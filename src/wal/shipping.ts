import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { LifeboatError } from '../base/errors.ts';
import { plural } from '../report/format.ts';
import type { SlotState } from '../sources/postgres/wal/slot.ts';
import { type Confirmed, later } from '../store/wal/coverage.ts';
import { formatLsn, parseSegmentName, type Segment, segmentAt, segmentName, startOf } from '../store/wal/names.ts';
import type { LogChange } from '../store/wal/next-page.ts';
import type { StoredGap, StoredSegment, StoredTail } from '../store/wal/page.ts';
import type { LogEnd } from '../store/wal/remembered.ts';
import { listAncestors, parseHistory, parseHistoryName } from '../store/wal/timelines.ts';
import type { WalWriter } from '../store/wal/write-log.ts';
import { Samples } from './samples.ts';
import { endOfData, listReceived, readPartial, readReceived, removeReceived } from './spool/received-files.ts';
import { beating, TailWatch, tailOf } from './tail.ts';

/** The most segments that one revision of a page adds. */
export const BATCH = 16;
/** After this many parts, the open segment is stored again as one part. */
const MAX_PARTS = 60;

/** A gap, as it is reported and as it is listed. */
interface Gap {
  error: LifeboatError;
  stored: StoredGap;
}

interface ShippingOptions {
  writer: WalWriter;
  directory: string;
  segmentSize: number;
  now(): Date;
  /** called when WAL is missing between what is stored and what follows */
  onGap(error: LifeboatError): void;
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
  private readonly samples: Samples;
  /** why WAL may be missing, if that is known */
  private why: string | undefined;
  private alive: () => void = () => {};
  private readonly tails: TailWatch;

  constructor(options: ShippingOptions) {
    this.options = options;
    this.samples = new Samples(options.segmentSize);
    this.tails = new TailWatch(options.directory, options.segmentSize, options.writer.tail);
  }

  /** Notes why the next gap exists; undefined: nobody expects one. */
  expectGap(why: string | undefined): void {
    this.why = why;
  }

  /**
   * Stores new history files, at most {@link BATCH} complete segments, and the new part of the open segment.
   *
   * @param alive called for each sign of progress
   * @throws the errors of the destination; LOCKED; WAL_DIVERGED; CLOCK_JUMPED; WAL_GAP for files of nobody's size
   */
  async ship(state: SlotState, signal: AbortSignal, alive = () => {}): Promise<Shipped> {
    const { directory, segmentSize, writer } = this.options;
    this.alive = alive;
    this.refuseOlder(state);
    this.samples.add(state, writer.inventory.reachedOf(state.timeline));
    const files = await listReceived(directory, segmentSize);
    await this.tails.look();
    await this.shipHistories(files.histories, signal);
    for (const name of files.left.concat(files.partial ?? [])) await this.shipEnd(name, state, signal);
    for (const name of files.complete) await this.tails.prove(name, segmentSize);
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

  /** Stores everything that was received, without a look at the server. Throws like {@link ship}. */
  async shipRest(signal: AbortSignal, alive = () => {}): Promise<void> {
    const { directory, segmentSize, writer } = this.options;
    this.alive = alive;
    const files = await listReceived(directory, segmentSize);
    await this.tails.look();
    await this.shipHistories(files.histories, signal);
    const isStored = (name: string) => writer.inventory.has(name);
    const waiting = files.complete.filter((name) => !isStored(name));
    for (const name of waiting) await this.tails.prove(name, segmentSize);
    for (let at = 0; at < waiting.length; at += BATCH) await this.shipSegments(waiting.slice(at, at + BATCH), signal);
    for (const name of files.left.concat(files.partial ?? [])) await this.shipToEnd(name, signal);
    signal.throwIfAborted();
    await removeReceived(directory, files, isStored);
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

  /** Returns the time that WAL before a position reaches: that of a sample, or what the stored WAL reaches already. */
  private reachedAt(end: bigint, timeline: number): string | undefined {
    return later(this.options.writer.inventory.reachedOf(timeline), this.samples.before(end, timeline));
  }

  private async shipHistories(names: readonly string[], signal: AbortSignal): Promise<void> {
    const { directory, writer } = this.options;
    for (const name of names) {
      const content = await buffer(await readReceived(directory, name, {}));
      const ancestors = parseHistory(content.toString('utf8'));
      const known = writer.inventory.historyOf(parseHistoryName(name) as number);
      if (known && JSON.stringify(listAncestors(known)) !== JSON.stringify(listAncestors(ancestors)))
        throw new LifeboatError(
          'WAL_DIVERGED',
          `the server has another history in ${name} than the one that is stored`,
        );
      if (known) continue;
      const stored = await writer.putHistory(name, ancestors, Readable.from([content]), signal);
      await this.append({ histories: [stored] }, [], signal);
    }
  }

  private async shipSegments(names: readonly string[], signal: AbortSignal): Promise<void> {
    const { directory, segmentSize, writer } = this.options;
    if (names.length === 0) return;
    const segments: StoredSegment[] = [];
    const pending = new Set<string>();
    const gaps: Gap[] = [];
    let tail: StoredTail | undefined;
    for (const name of names) {
      const at = parseSegmentName(name, segmentSize) as Segment;
      const gap = this.gapBefore(at, pending);
      if (gap) gaps.push(gap);
      const plain = await readReceived(directory, name, { size: segmentSize });
      const hash = createHash('sha256');
      const stored = await writer.putSegment(name, beating(plain, hash, this.alive), signal);
      this.tails.note(name, segmentSize, hash);
      tail = tailOf(name, segmentSize, hash);
      const reached = this.reachedAt(startOf(at.number + 1, segmentSize), at.timeline);
      segments.push({ ...stored, ...(reached === undefined ? {} : { reached }) });
      pending.add(name);
    }
    await this.append({ segments, ...(tail ? { tail } : {}) }, gaps, signal);
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
    const { directory, segmentSize, writer } = this.options;
    const at = parseSegmentName(name, segmentSize) as Segment;
    // The slot says how much of which segment is on the disk. Beyond that, the file holds zeros or old bytes.
    if (segmentAt(received, segmentSize) !== at.number) return;
    const to = Number(received - startOf(at.number, segmentSize));
    const former = writer.open?.name === name ? writer.open : undefined;
    const end = former?.parts.at(-1)?.to ?? 0;
    if (to <= end) return;
    await this.tails.prove(name, to);
    const isWhole = former === undefined || former.parts.length >= MAX_PARTS;
    const range = { from: isWhole ? 0 : end, to };
    const plain = await readPartial(directory, name, { size: segmentSize, range });
    if (!plain) return;
    const gap = this.gapBefore(at, new Set());
    const hash = await this.tails.upTo(name, range.from);
    const part = await writer.putPart(name, range, beating(plain, hash, this.alive), signal);
    const reached = this.reachedAt(received, at.timeline);
    const parts = isWhole ? [part] : [...(former?.parts ?? []), part];
    const open = { name, parts, ...(reached === undefined ? {} : { reached }) };
    await this.append({ open, tail: tailOf(name, to, hash) }, gap ? [gap] : [], signal);
    this.tails.note(name, to, hash);
  }

  private async append(change: LogChange, gaps: readonly Gap[], signal: AbortSignal): Promise<void> {
    const { writer, onGap } = this.options;
    signal.throwIfAborted();
    await writer.append({ ...change, gaps: gaps.map(({ stored }) => stored) }, () => {
      this.alive();
      if (gaps.length === 0) return;
      this.why = undefined;
      for (const { error } of gaps) onGap(error);
    });
  }

  /** Returns the gap between the stored WAL and a segment that follows, if there is one that no page lists. */
  private gapBefore(next: Segment, pending: ReadonlySet<string>): Gap | undefined {
    const { writer, segmentSize, now } = this.options;
    const missing = writer.inventory.missingBefore(next, pending);
    if (!missing) return undefined;
    const { after } = missing;
    const from = after && segmentName({ timeline: after.timeline, number: after.number + 1 }, segmentSize);
    const what = after
      ? `${plural(next.number - after.number - 1, 'segment')} of WAL from ${from} on`
      : `the WAL before ${segmentName(next, segmentSize)}`;
    const error = new LifeboatError('WAL_GAP', `${what}: not received${this.why === undefined ? '' : `: ${this.why}`}`);
    const to = formatLsn(startOf(next.number, segmentSize));
    return { error, stored: { at: now().toISOString(), timeline: next.timeline, to, why: error.message } };
  }
}
