/**
 * Calls `act` when the signal aborts, or at once when it has. Returns a function that takes this back. Without a signal
 * nothing happens.
 */
export function onAbort(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal?.aborted) act();
  else signal?.addEventListener('abort', act, { once: true });
  return () => signal?.removeEventListener('abort', act);
}
