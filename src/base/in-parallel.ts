/**
 * Processes items as they arrive, `count` at a time. After the first failure, no further item is started. The error is
 * thrown once all running calls have ended.
 */
export async function inParallel<T>(
  count: number,
  items: AsyncGenerator<T>,
  work: (item: T) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  let failed = false;
  const worker = async () => {
    for (let step = await items.next(); !step.done && !failed; step = await items.next()) {
      signal?.throwIfAborted();
      try {
        await work(step.value);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: count }, worker));
  const broken = outcomes.find((outcome) => outcome.status === 'rejected');
  if (broken) throw broken.reason;
}
