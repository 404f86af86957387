import { onAbort } from '../base/abort.ts';

/** How long work that was told to end is waited for, milliseconds: above what killing a process takes. */
const LEAVE_MS = 10_000;

const BEAT_MS = 1000;

/** How work is watched. */
interface WatchOptions {
  /** milliseconds without a sign of life after which the work counts as stalled */
  limitMs: number;
  /** what is thrown then */
  stalled(): Error;
  signal: AbortSignal;
}

/**
 * Ends work that makes no progress: `work` calls `alive` whenever it has done something. Work that cannot be ended, because the
 * operating system does not come back to it, is left behind: then this rejects all the same.
 */
export async function watched<T>(
  { limitMs, stalled: makeError, signal: outer }: WatchOptions,
  work: (signal: AbortSignal, alive: () => void) => Promise<T>,
): Promise<T> {
  const stalled = new AbortController();
  const watch = setTimeout(() => stalled.abort(makeError()), limitMs);
  const left = new Promise<never>((_, reject) => {
    onAbort(stalled.signal, () => setTimeout(() => reject(stalled.signal.reason), Math.min(LEAVE_MS, limitMs)));
  });
  left.catch(() => {});
  const signal = AbortSignal.any([outer, stalled.signal]);
  try {
    return await Promise.race([work(signal, () => void watch.refresh()), left]);
  } catch (error) {
    throw stalled.signal.aborted ? stalled.signal.reason : error;
  } finally {
    clearTimeout(watch);
  }
}

/** Waits for what is watched by itself, which is a sign of life of whoever waits. */
export async function patiently(others: Promise<unknown>, alive: () => void): Promise<void> {
  const beat = setInterval(alive, BEAT_MS);
  await others.finally(() => clearInterval(beat));
}
