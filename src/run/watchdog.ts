import { onAbort } from '../base/abort.ts';

/** The longest wait for work that was aborted, milliseconds: longer than killing a process takes. */
const LEAVE_MS = 10_000;

const BEAT_MS = 1000;

/** Options of {@link watched}. */
interface WatchOptions {
  /** milliseconds without a sign of life after which the work counts as stalled */
  limitMs: number;
  /** creates the error for stalled work */
  stalled(): Error;
  signal: AbortSignal;
}

/**
 * Runs work, and ends it when it makes no progress: `work` calls `alive` whenever it has done something. Work that
 * hangs in a system call and cannot end is abandoned; the promise rejects anyway.
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

/** Waits for work that has a watchdog of its own, and reports signs of life meanwhile. */
export async function patiently(others: Promise<unknown>, alive: () => void): Promise<void> {
  const beat = setInterval(alive, BEAT_MS);
  await others.finally(() => clearInterval(beat));
}
