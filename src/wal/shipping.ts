import type { Readable } from 'node:stream';
import { LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { plural } from '../report/format.ts';
import type { SlotState } from '../sources/postgres/wal/slot.ts';
import {
  endOfRecords,
  formatLsn,
  parseSegmentName,
  type Segment,
  segmentAt,
  segmentName,
  startOf,
} from '../store/wal/names.ts';
import type { StoredSegment } from '../store/wal/page.ts';
import type { LogChange, WalWriter } from '../store/wal/write-log.ts';
import { listReceived, readPartial, readReceived, removeReceived } from './received-files.ts';

/** The server's position at a time: everything that had committed by then is before it. */
interface Sample {
  lsn: bigint;
  at: string;
}

/** The most samples that wait for their WAL to be stored. */
const MAX_SAMPLES = 512;
/** The most segments that one revision of a page adds. */
const BATCH = 16;
/** After this many parts, the open segment is stored again as one part. */
const MAX_PARTS = 60;

interface ShippingOptions {
  writer: WalWriter;
  directory: string;
  segmentSize: number;
  log: Log;
  /** called when WAL is missing between what is stored and what follows */
  onGap(error: LifeboatError): void;
}

/** The result of {@link Shipping.ship}. */
interface Shipped {
  /** complete segments wait for the next call */
  more: boolean;
  /** the end of the stored WAL; undefined if nothing is stored */
  stored?: bigint;
  /** the last time at which everything that the server had written was stored */
  confirmed?: { lsn: string; at: string };
}

/** Stores received WAL in the repository, and removes it from the spool. */
export class Shipping {
  private readonly options: ShippingOptions;
  private samples: Sample[] = [];
  private reached: string | undefined;
  private confirmed: Shipped['confirmed'];
  /** why WAL may be missing, if that is known */
  private why: string | undefined;

  constructor(options: ShippingOptions) {
    this.options = options;
  }

  /** Notes why the next gap exists. */
  expectGap(why: string): void {
    this.why = why;
  }

  /**
   * Stores new history files, at most {@link BATCH} complete segments, and the new part of the open segment.
   *
   * @throws the errors of the destination; LOCKED; WAL_GAP for files that `pg_receivewal` does not write
   */
  async ship(state: SlotState, signal: AbortSignal): Promise<Shipped> {
    const { directory, segmentSize, writer } = this.options;
    this.sample(state);
    const files = await listReceived(directory, segmentSize);
    await this.shipHistories(files.histories, signal);
    const waiting = files.complete.filter((name) => !writer.has(name));
    await this.shipSegments(waiting.slice(0, BATCH), signal);
    const stored = files.complete.filter((name) => writer.has(name));
    if (stored.length > 0) await removeReceived(directory, stored, files.partial);
    const more = waiting.length > BATCH;
    if (!more && files.partial !== undefined && state.slot?.received !== undefined) {
      await this.shipPart(files.partial, state.slot.received, signal);
    }
    const end = this.end();
    this.settle(end, state);
    return {
      more,
      ...(end === undefined ? {} : { stored: end }),
      ...(this.confirmed ? { confirmed: this.confirmed } : {}),
    };
  }

  /** Returns the end of the stored WAL. */
  private end(): bigint | undefined {
    const { writer, segmentSize } = this.options;
    const last = writer.last();
    const complete = last && startOf(last.number + 1, segmentSize);
    const open = writer.open && parseSegmentName(writer.open.name, segmentSize);
    const part = open && startOf(open.number, segmentSize) + BigInt(writer.open?.parts.at(-1)?.to ?? 0);
    if (complete === undefined || part === undefined) return complete ?? part;
    return part > complete ? part : complete;
  }

  private sample({ inserting, at }: SlotState): void {
    const lsn = endOfRecords(inserting, this.options.segmentSize);
    const last = this.samples.at(-1);
    if (last?.lsn === lsn) last.at = at;
    else this.samples.push({ lsn, at });
    // The newest and the oldest matter most: without one in between, a window ends a little earlier.
    if (this.samples.length > MAX_SAMPLES) this.samples.splice(MAX_SAMPLES / 2, 1);
  }

  /** Returns the time of the newest sample before a position. */
  private reachedAt(end: bigint): string | undefined {
    const found = this.samples.findLast(({ lsn }) => lsn <= end)?.at;
    if (found !== undefined && (this.reached === undefined || Date.parse(found) > Date.parse(this.reached)))
      this.reached = found;
    return this.reached;
  }

  private settle(end: bigint | undefined, { inserting, at }: SlotState): void {
    if (end === undefined) return;
    this.reachedAt(end);
    this.samples = this.samples.filter(({ lsn }, i) => lsn > end || i === this.samples.length - 1);
    if (endOfRecords(inserting, this.options.segmentSize) <= end) this.confirmed = { lsn: formatLsn(end), at };
  }

  private async shipHistories(names: readonly string[], signal: AbortSignal): Promise<void> {
    const { directory, writer } = this.options;
    for (const name of names) {
      if (writer.has(name)) continue;
      const plain = await readReceived(directory, name, {});
      await writer.append({ histories: [await writer.putHistory(name, plain, signal)] });
    }
  }

  private async shipSegments(names: readonly string[], signal: AbortSignal): Promise<void> {
    const { directory, segmentSize, writer } = this.options;
    const [first] = names;
    if (first === undefined) return;
    const gap = this.gapBefore(parseSegmentName(first, segmentSize) as Segment);
    const segments: StoredSegment[] = [];
    for (const name of names) {
      const plain: Readable = await readReceived(directory, name, { size: segmentSize });
      const stored = await writer.putSegment(name, plain, signal);
      const { number } = parseSegmentName(name, segmentSize) as Segment;
      const reached = this.reachedAt(startOf(number + 1, segmentSize));
      segments.push({ ...stored, ...(reached === undefined ? {} : { reached }) });
    }
    const isOpenDone = writer.open !== undefined && names.includes(writer.open.name);
    await this.append({ segments, ...(isOpenDone ? { open: null } : {}) }, gap);
  }

  private async shipPart(name: string, received: bigint, signal: AbortSignal): Promise<void> {
    const { directory, segmentSize, writer } = this.options;
    const at = parseSegmentName(name, segmentSize) as Segment;
    // The slot says how much of which segment is on the disk. Beyond that, the file holds zeros or old bytes.
    if (segmentAt(received, segmentSize) !== at.number) return;
    const to = Number(received - startOf(at.number, segmentSize));
    const open = writer.open?.name === name ? writer.open : undefined;
    const end = open?.parts.at(-1)?.to ?? 0;
    if (to <= end) return;
    const isWhole = open === undefined || open.parts.length >= MAX_PARTS;
    const range = { from: isWhole ? 0 : end, to };
    const gap = open ? undefined : this.gapBefore(at);
    const plain = await readPartial(directory, name, { size: segmentSize, range });
    const part = await writer.putPart(name, range, plain, signal);
    const reached = this.reachedAt(received) ?? open?.reached;
    const parts = isWhole ? [part] : [...(open?.parts ?? []), part];
    await this.append({ open: { name, parts, ...(reached === undefined ? {} : { reached }) } }, gap);
  }

  private async append(change: LogChange, gap: LifeboatError | undefined): Promise<void> {
    const { writer, segmentSize, onGap } = this.options;
    const first = change.segments?.[0]?.name ?? change.open?.name;
    const at = first === undefined ? undefined : parseSegmentName(first, segmentSize);
    const noted =
      gap && at
        ? { at: new Date().toISOString(), to: formatLsn(startOf(at.number, segmentSize)), why: gap.message }
        : undefined;
    await writer.append({ ...change, ...(noted ? { gap: noted } : {}) });
    if (!gap) return;
    this.why = undefined;
    onGap(gap);
  }

  /** Returns the gap between the stored WAL and a segment that follows, if there is one. */
  private gapBefore(next: Segment): LifeboatError | undefined {
    const { writer, segmentSize } = this.options;
    const last = writer.last();
    if (last === undefined || next.number <= last.number + 1) return undefined;
    const missing = next.number - last.number - 1;
    const from = segmentName({ timeline: last.timeline, number: last.number + 1 }, segmentSize);
    const why = this.why === undefined ? '' : `: ${this.why}`;
    return new LifeboatError('WAL_GAP', `${plural(missing, 'segment')} of WAL from ${from} on: not received${why}`);
  }
}
