/**
 * Calls `act` when the signal aborts, or at once when it has. Returns a function that takes this back. Without a signal
 * nothing happens.
 */
export function onAbort(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal?.aborted) act();
  else signal?.addEventListener('abort', act, { once: true });
  return () => signal?.removeEventListener('abort', act);
}

/** Resolves when the signal aborts, or has done so. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => void onAbort(signal, resolve));
}

/** Settles with work that does not hear the signal, or rejects with the signal's reason; the work is then left behind. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const stopped = Promise.withResolvers<never>();
  const forget = onAbort(signal, () => stopped.reject(signal.reason));
  try {
    return await Promise.race([work, stopped.promise]);
  } finally {
    forget();
  }
}
