/**
 * Calls `act` when the signal aborts, or at once if it already has. Does nothing without a signal.
 *
 * @returns a function that stops listening
 */
export function onAbort(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal?.aborted) act();
  else signal?.addEventListener('abort', act, { once: true });
  return () => signal?.removeEventListener('abort', act);
}

/** Resolves when the signal aborts, or at once if it already has. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => void onAbort(signal, resolve));
}

/**
 * Waits for work, at most for some time. The work then continues unattended.
 *
 * @param ms the time, milliseconds
 * @returns undefined if the work takes longer
 */
export async function waitAtMost<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => late.resolve(undefined), ms);
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Waits for work that ignores the signal. Rejects with the signal's reason as soon as it aborts. The work then
 * continues unattended.
 */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const stopped = Promise.withResolvers<never>();
  const forget = onAbort(signal, () => stopped.reject(signal.reason));
  try {
    return await Promise.race([work, stopped.promise]);
  } finally {
    forget();
  }
}
