import type { CountPace } from './count-rows.ts';

/** All counts of a source together wait at most this long for locks, milliseconds. */
const WAIT_MS = 30_000;

/** One statement waits this long for a lock, and the second try with a single table this long; milliseconds. */
const ONE_WAIT_MS = 10_000;
const ALONE_WAIT_MS = 1000;

/**
 * The shortest wait, milliseconds: 0 would mean no limit (Postgres docs, lock_timeout). Unlocked tables are always
 * counted.
 */
const LEAST_WAIT_MS = 10;

/**
 * The most time that counts get after the dump of their database has ended, milliseconds; longer if the dump took
 * longer. It begins with the counts if these begin later.
 */
const GRACE_MS = 60_000;

/** Definitions may be read for as long as the dump takes, and within these limits; milliseconds. */
const LEAST_READING_MS = 10_000;
const MOST_READING_MS = 120_000;

/** Limits the time for what is read while a database is dumped. */
export interface DumpPace extends CountPace {
  dumpEnded(): void;
  /** Returns how long all definitions may be read, milliseconds. It becomes shorter when a short dump has ended. */
  readingMs(): number;
}

/**
 * Limits the time that the counts of a source take. Counts only serve comparisons, so a finished dump does not wait
 * long for them. The waits for locks are measured, and limited for all databases of the source together.
 */
export class CountBudget {
  private readonly oneWaitMs: number;
  private readonly now: () => number;
  private leftMs = WAIT_MS;

  /** @param now returns milliseconds of a clock that only moves forward */
  constructor(stallTimeoutMs: number, now: () => number = () => performance.now()) {
    this.oneWaitMs = Math.min(ONE_WAIT_MS, stallTimeoutMs / 4);
    this.now = now;
  }

  /** Returns the pace of one database, whose dump begins now. */
  begin(): DumpPace {
    const began = this.now();
    let ended: number | undefined;
    let counting: number | undefined;
    const isOver = () => {
      counting ??= this.now();
      if (ended === undefined) return false;
      return this.now() > Math.max(ended, counting) + Math.max(GRACE_MS, ended - began);
    };
    return {
      now: this.now,
      lockWaitMs: (alone) => {
        if (isOver()) return undefined;
        const most = alone ? Math.min(ALONE_WAIT_MS, this.oneWaitMs) : this.oneWaitMs;
        return Math.round(Math.max(LEAST_WAIT_MS, Math.min(most, this.leftMs)));
      },
      waited: (ms) => {
        this.leftMs -= ms;
      },
      dumpEnded: () => {
        ended = this.now();
      },
      readingMs: () =>
        ended === undefined ? MOST_READING_MS : Math.min(MOST_READING_MS, Math.max(LEAST_READING_MS, ended - began)),
    };
  }
}
