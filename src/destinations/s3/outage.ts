import { onAbort } from '../../base/abort.ts';
import type { S3Limits } from './retry.ts';

/** Time limit of a trial attempt while the server is down, milliseconds. */
const TRIAL_MS = 10_000;
/**
 * Bytes accepted within this time may only be in the socket's buffer. They do not prove that the server answers.
 * Milliseconds.
 */
const BUFFERED_MS = 5000;

/**
 * Tracks whether a server answers, for all requests of this process to it. An outage has one time limit, not one per
 * object. After that limit, or after a request has used up its attempts without any response, further requests fail at
 * once. Every `limits.trialMs` one request tries again.
 */
export class S3Outage {
  private readonly limits: S3Limits;
  private readonly hurry: AbortSignal | undefined;
  /** start of the first attempt that failed since the last response */
  private failingSince: number | undefined;
  private down: { error: unknown; tried: number } | undefined;

  /** @param hurry aborts when the process shuts down: then each request has only `limits.leftMs` */
  constructor(limits: S3Limits, hurry?: AbortSignal) {
    this.limits = limits;
    this.hurry = hurry;
  }

  /**
   * Call this before the first attempt of a request.
   *
   * @throws the error of the last request, while the server is down
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
            this.noteResponse();
          },
          answered: () => this.noteResponse(),
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
        // Responses to other requests meanwhile show that the server answers.
        if (this.failingSince === undefined || this.failingSince > began) return;
        // The next request still goes out: perhaps only this object, or this kind of request, fails.
        this.down = { error, tried: this.down?.tried ?? Number.NEGATIVE_INFINITY };
      },
    };
  }

  /** Calls `late` after `ms` milliseconds, or soon after the process begins to shut down. */
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

  private noteResponse(): void {
    this.failingSince = undefined;
    this.down = undefined;
  }
}

/** The time limits of one request. */
interface Patience {
  /** Begins an attempt. `late` is called if the server is silent for `limitMs` milliseconds. */
  attempt(limitMs: number, late: () => void): Attempt;
  /** Returns true if a further attempt is pointless. */
  isOver(): boolean;
  /** Call this if the request failed for good because of transient failures. */
  gaveUp(error: unknown): void;
}

interface Attempt {
  /** the server, or the socket, accepted bytes */
  taken(): void;
  /** the server responded, whatever the response says */
  answered(): void;
  /** no response arrived, or one that says that the server is failing */
  failed(): void;
  end(): void;
}
