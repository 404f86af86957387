import { LifeboatError } from '../base/errors.ts';
import type { SlotState } from '../sources/postgres/wal/slot.ts';
import { type Confirmed, later } from '../store/wal/coverage.ts';
import { endOfRecords, formatLsn } from '../store/wal/names.ts';

/** The server's position at a time: everything that had committed by then is before it, on that timeline. */
interface Sample {
  timeline: number;
  lsn: bigint;
  at: string;
}

/** The most samples that wait for their WAL to be stored. */
const MAX_SAMPLES = 512;
/** A clock that goes back by less than this is corrected as usual, milliseconds. */
const CLOCK_MS = 10_000;

/** Dates stored WAL by the positions of the server at known times. */
export class Samples {
  /** the last time at which everything that the server had written was stored */
  confirmed: Confirmed | undefined;
  private readonly segmentSize: number;
  private samples: Sample[] = [];

  constructor(segmentSize: number) {
    this.segmentSize = segmentSize;
  }

  /**
   * Notes the position of the server.
   *
   * @param reached the latest time that the stored WAL of its timeline reaches
   * @throws CLOCK_JUMPED if the clock went back: a recovery to a time would stop at the first commit after that time by
   * the earlier clock
   */
  add({ inserting, at, timeline }: SlotState, reached: string | undefined): void {
    const last = this.samples.at(-1);
    const before = later(reached, last?.timeline === timeline ? last.at : undefined);
    const back = before === undefined ? 0 : Date.parse(before) - Date.parse(at);
    if (back > CLOCK_MS) {
      this.samples = [];
      throw new LifeboatError('CLOCK_JUMPED', `the clock of the server went back from ${before} to ${at}`);
    }
    const lsn = endOfRecords(inserting, this.segmentSize);
    if (last?.lsn === lsn && last.timeline === timeline) last.at = at;
    else this.samples.push({ timeline, lsn, at });
    // The newest and the oldest matter most: without one in between, a window ends a little earlier.
    if (this.samples.length > MAX_SAMPLES) this.samples.splice(MAX_SAMPLES / 2, 1);
  }

  /** Returns the time of the newest sample before a position of a timeline. */
  before(end: bigint, timeline: number): string | undefined {
    return this.samples.findLast((one) => one.timeline === timeline && one.lsn <= end)?.at;
  }

  /** Notes that the WAL of the server's timeline is stored to a position. */
  settle(end: bigint | undefined, { inserting, timeline, at }: SlotState): void {
    if (end === undefined) return;
    const last = this.samples.at(-1);
    this.samples = this.samples.filter((one) => one.timeline !== timeline || one.lsn > end || one === last);
    if (endOfRecords(inserting, this.segmentSize) <= end) this.confirmed = { timeline, lsn: formatLsn(end), at };
  }
}
