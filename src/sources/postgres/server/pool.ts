/** A piece of work that gives up when the signal aborts. */
export type Task = (signal: AbortSignal) => Promise<void>;

/**
 * Runs tasks, at most `limit` at a time, begun in their order. The first failure aborts the others' signal and keeps the
 * rest from being begun; it is what this rejects with, once everything begun has settled.
 */
export async function runPool(tasks: readonly Task[], limit: number, signal: AbortSignal): Promise<void> {
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const waiting = [...tasks];
  const work = async () => {
    for (let task = waiting.shift(); task && !either.aborted; task = waiting.shift()) {
      await task(either).catch((error: unknown) => failed.abort(error));
    }
  };
  await Promise.all(Array.from({ length: limit }, work));
  signal.throwIfAborted();
  failed.signal.throwIfAborted();
}
