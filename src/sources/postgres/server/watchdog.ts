import { LifeboatError } from '../../../base/errors.ts';

/** Returns a value that changes while work progresses: bytes written, the state of the server's sessions. */
type Pulse = (signal: AbortSignal) => Promise<string>;

interface WatchdogOptions {
  /** milliseconds without any change after which the work counts as stalled */
  timeoutMs: number;
  /** milliseconds between two checks */
  intervalMs?: number;
  pulses: Pulse[];
  signal: AbortSignal;
  /** name of the work for the error: `the dump of app in shop-db-1` */
  what: string;
}

/**
 * Runs `work` under a signal that aborts with PG_STALLED when no pulse has changed for the timeout. A pulse that
 * rejects or hangs counts as unchanged, because a paused server does not respond.
 */
export async function withWatchdog<T>(options: WatchdogOptions, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stalled = new AbortController();
  const signal = AbortSignal.any([options.signal, stalled.signal]);
  const interval = options.intervalMs ?? Math.min(2000, Math.max(100, options.timeoutMs / 5));
  const last = options.pulses.map(() => '');
  const pending = options.pulses.map(() => false);
  let changedAt = performance.now();

  const check = () => {
    options.pulses.forEach((pulse, i) => {
      if (pending[i]) return;
      pending[i] = true;
      pulse(signal)
        .then((value) => {
          if (value === last[i]) return;
          last[i] = value;
          changedAt = performance.now();
        })
        .catch(() => undefined)
        .finally(() => {
          pending[i] = false;
        });
    });
    if (performance.now() - changedAt > options.timeoutMs) {
      stalled.abort(
        new LifeboatError(
          'PG_STALLED',
          `${options.what} made no progress for ${Math.round(options.timeoutMs / 1000)} s`,
          {
            hint: 'Check for a paused container, a full disk or a lock (pg_stat_activity, pg_locks). LIFEBOAT_STALL_TIMEOUT sets how long to wait.',
          },
        ),
      );
    }
  };
  const timer = setInterval(check, interval);
  check();
  try {
    return await work(signal);
  } catch (error) {
    throw stalled.signal.aborted ? stalled.signal.reason : error;
  } finally {
    clearInterval(timer);
  }
}
