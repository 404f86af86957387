import type { Readable } from 'node:stream';
import { onAbort } from '../base/abort.ts';
import { LifeboatError } from '../base/errors.ts';

/** The limits of a call to the engine. */
export interface Bounds {
  signal?: AbortSignal | undefined;
  /** milliseconds; undefined: no limit */
  timeoutMs?: number | undefined;
}

/**
 * Runs `work` with a signal that aborts with the caller's signal, or when the time is up. Then rejects at once, even if
 * `work` does not end: with the {@link interruption}, or with the error of `late`. The time starts with the call.
 */
export async function withinBounds<T>(
  { signal, timeoutMs }: Bounds,
  late: () => LifeboatError,
  work: (signal: AbortSignal, fail: (error: LifeboatError) => void) => Promise<T>,
): Promise<T> {
  if (signal?.aborted) throw interruption(signal);
  const controller = new AbortController();
  const ended = Promise.withResolvers<never>();
  const fail = (error: LifeboatError) => {
    ended.reject(error);
    controller.abort(error);
  };
  const forget = onAbort(signal, () => fail(interruption(signal)));
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => fail(late()), timeoutMs);
  try {
    return await Promise.race([work(controller.signal, fail), ended.promise]);
  } finally {
    clearTimeout(timer);
    forget();
  }
}

/** Returns the error of an aborted signal: its reason if that is a LifeboatError, else INTERRUPTED. */
export function interruption(signal: AbortSignal | undefined): LifeboatError {
  const reason: unknown = signal?.reason;
  if (reason instanceof LifeboatError) return reason;
  return new LifeboatError('INTERRUPTED', 'asked to stop', { cause: reason });
}

/** Makes an open stream end with the {@link interruption} when the signal aborts. Returns the stream. */
export function endWith<T extends Readable>(stream: T, signal: AbortSignal | undefined): T {
  const forget = onAbort(signal, () => stream.destroy(interruption(signal)));
  stream.once('close', forget);
  return stream;
}
