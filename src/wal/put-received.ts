import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { LifeboatError } from '../base/errors.ts';
import { later } from '../store/wal/coverage.ts';
import { parseSegmentName, type Segment, startOf } from '../store/wal/names.ts';
import type { LogChange } from '../store/wal/next-page.ts';
import type { StoredSegment, StoredTail } from '../store/wal/page.ts';
import { listAncestors, parseHistory, parseHistoryName } from '../store/wal/timelines.ts';
import type { WalWriter } from '../store/wal/write-log.ts';
import { type Gap, gapBefore } from './gaps.ts';
import type { Samples } from './samples.ts';
import { readPartial, readReceived } from './spool/received-files.ts';
import { beating, TailWatch, tailOf } from './spool/tail.ts';

/** After this many parts, the open segment is stored again as one part. */
const MAX_PARTS = 60;

export interface PutOptions {
  writer: WalWriter;
  directory: string;
  segmentSize: number;
  now(): Date;
  /** called when WAL is missing between what is stored and what follows */
  onGap(error: LifeboatError): void;
}

/** Puts received files into the repository, and lists them in the log. */
export class PutReceived {
  /** why WAL may be missing, if that is known */
  why: string | undefined;
  /** called for each sign of progress */
  alive: () => void = () => {};
  readonly tails: TailWatch;
  private readonly options: PutOptions;
  private readonly samples: Samples;

  constructor(options: PutOptions, samples: Samples) {
    this.options = options;
    this.samples = samples;
    this.tails = new TailWatch(options.directory, options.segmentSize, options.writer.tail);
  }

  /** Puts history files that are not stored. @throws WAL_DIVERGED if another one of the same timeline is */
  async histories(names: readonly string[], signal: AbortSignal): Promise<void> {
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

  /** Puts complete segments. */
  async segments(names: readonly string[], signal: AbortSignal): Promise<void> {
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

  /** Puts what is new of an incomplete segment, up to an offset. @throws WAL_DIVERGED */
  async part(name: string, to: number, signal: AbortSignal): Promise<void> {
    const { directory, segmentSize, writer } = this.options;
    const at = parseSegmentName(name, segmentSize) as Segment;
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
    const reached = this.reachedAt(startOf(at.number, segmentSize) + BigInt(to), at.timeline);
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

  private gapBefore(next: Segment, pending: ReadonlySet<string>): Gap | undefined {
    const { writer, segmentSize, now } = this.options;
    return gapBefore(writer.inventory, next, { pending, segmentSize, at: now(), why: this.why });
  }

  /** Returns the time that WAL before a position reaches: that of a sample, or what the stored WAL reaches already. */
  private reachedAt(end: bigint, timeline: number): string | undefined {
    return later(this.options.writer.inventory.reachedOf(timeline), this.samples.before(end, timeline));
  }
}
