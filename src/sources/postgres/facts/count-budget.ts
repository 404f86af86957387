import type { CountPace } from './count-rows.ts';

/** How long the counts of a source may wait for locks, all together: milliseconds. */
const WAIT_MS = 30_000;

/** How long one statement waits for a lock, and one of a single table that others were in the way of. */
const ONE_WAIT_MS = 10_000;
const ALONE_WAIT_MS = 1000;

/** A wait of 0 would be one without an end (Postgres docs, lock_timeout). What is free is counted even so. */
const LEAST_WAIT_MS = 10;

/** How long counts may go on once the dump of their database has ended, if that was quicker: milliseconds. */
const GRACE_MS = 60_000;

/**
 * What the counts of all databases of a source may cost: they are there to compare with, and a dump that is done does not wait for
 * them for long. The time that locks cost is measured, and bounded for the source as a whole.
 */
export class CountBudget {
  readonly #oneWaitMs: number;
  readonly #now: () => number;
  #leftMs = WAIT_MS;

  /** @param now milliseconds that only go forward */
  constructor(stallTimeoutMs: number, now: () => number = () => performance.now()) {
    this.#oneWaitMs = Math.min(ONE_WAIT_MS, stallTimeoutMs / 4);
    this.#now = now;
  }

  /** For one database, whose dump begins now. */
  begin(): CountPace & { dumpEnded(): void } {
    const began = this.#now();
    let until = Number.POSITIVE_INFINITY;
    return {
      now: this.#now,
      lockWaitMs: (alone) => {
        if (this.#now() > until) return undefined;
        const most = alone ? Math.min(ALONE_WAIT_MS, this.#oneWaitMs) : this.#oneWaitMs;
        return Math.round(Math.max(LEAST_WAIT_MS, Math.min(most, this.#leftMs)));
      },
      waited: (ms) => {
        this.#leftMs -= ms;
      },
      dumpEnded: () => {
        const ended = this.#now();
        until = ended + Math.max(GRACE_MS, ended - began);
      },
    };
  }
}
