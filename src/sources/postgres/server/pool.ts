/** A task that stops when the signal aborts. */
export type Task = (signal: AbortSignal) => Promise<void>;

/**
 * Runs tasks in order, at most `limit` at a time. The first failure aborts the signal of the running tasks, and no
 * further task begins. Once all running tasks have ended, this function throws the first failure.
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
