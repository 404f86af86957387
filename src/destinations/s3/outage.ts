import { onAbort } from '../../base/abort.ts';
import type { S3Limits } from './retry.ts';

/** An attempt that was let through although the server is down: it may not take longer, milliseconds. */
const TRIAL_MS = 10_000;
/** Bytes that a socket takes this soon, milliseconds, may lie in it: they do not show that the server is there. */
const BUFFERED_MS = 5000;

/**
 * Whether a server answers, as far as all requests of this process to it know. An outage has one time limit, not one for each
 * object: after it, and after a request that used up its attempts while nothing answered, further requests fail at once.
 * Every `limits.trialMs` one of them asks again.
 */
export class S3Outage {
  private readonly limits: S3Limits;
  private readonly hurry: AbortSignal | undefined;
  /** start of the first attempt that failed since the last answer */
  private failingSince: number | undefined;
  private down: { error: unknown; tried: number } | undefined;

  /** @param hurry when the process is to end: then each request has `limits.leftMs` */
  constructor(limits: S3Limits, hurry?: AbortSignal) {
    this.limits = limits;
    this.hurry = hurry;
  }

  /**
   * To be called before the first attempt of a request.
   *
   * @throws what the last request failed with, while the server is down
   */
  begin(): Patience {
    const trial = this.down !== undefined;
    if (this.down) {
      if (performance.now() - this.down.tried < this.limits.trialMs) throw this.down.error;
      this.down.tried = performance.now();
    }
    const began = performance.now();
    let alive = began;
    return {
      attempt: (limitMs, late) => {
        const started = performance.now();
        const ms = trial ? Math.min(limitMs, TRIAL_MS) : limitMs;
        const timer = this.timer(ms, late);
        return {
          taken: () => {
            timer.refresh();
            if (performance.now() - started < BUFFERED_MS) return;
            alive = performance.now();
            this.heard();
          },
          answered: () => this.heard(),
          failed: () => {
            this.failingSince ??= started;
          },
          end: () => timer.end(),
        };
      },
      isOver: () => {
        if (trial || this.down || this.hurry?.aborted) return true;
        return performance.now() - Math.min(alive, this.failingSince ?? alive) >= this.limits.outageMs;
      },
      gaveUp: (error) => {
        // Others that were answered meanwhile show that the server is there.
        if (this.failingSince === undefined || this.failingSince > began) return;
        // The next request is let through: it may be the one object, or the one kind of request, that failed.
        this.down = { error, tried: this.down?.tried ?? Number.NEGATIVE_INFINITY };
      },
    };
  }

  /** Calls `late` after that time, or soon after the process is to end. */
  timer(ms: number, late: () => void): { refresh(): void; end(): void } {
    const timer = setTimeout(late, this.hurry?.aborted ? Math.min(ms, this.limits.leftMs) : ms);
    let left: NodeJS.Timeout | undefined;
    const onHurry = () => {
      left = setTimeout(late, this.limits.leftMs);
    };
    const forget = this.hurry?.aborted ? () => {} : onAbort(this.hurry, onHurry);
    return {
      refresh: () => void timer.refresh(),
      end: () => {
        clearTimeout(timer);
        clearTimeout(left);
        forget();
      },
    };
  }

  private heard(): void {
    this.failingSince = undefined;
    this.down = undefined;
  }
}

/** How patient one request may be. */
interface Patience {
  /** Begins an attempt; `late` is called when the server has said nothing for `limitMs` milliseconds. */
  attempt(limitMs: number, late: () => void): Attempt;
  /** True when no further attempt is worth it. */
  isOver(): boolean;
  /** To be called when the request failed for good because the server did not answer well. */
  gaveUp(error: unknown): void;
}

interface Attempt {
  /** the server, or the socket, took bytes */
  taken(): void;
  /** there was an answer, whatever it says */
  answered(): void;
  /** there was none, or one that the server could not help */
  failed(): void;
  end(): void;
}
