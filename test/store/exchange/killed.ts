/** Processes that are killed in the middle of an exchange. */

let isKilled = false;

/** The error of a process that is killed. */
export class Killed extends Error {
  constructor() {
    super('killed');
    isKilled = true;
  }
}

/** Returns a callback that kills the process at a step. */
export function killAt(step: number): () => void {
  let left = step;
  return () => {
    if (left-- === 0) throw new Killed();
  };
}

/** Runs an exchange that is killed. Resolves to whether it was, and not complete before. */
export async function killed(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return false;
  } catch (error) {
    if (error instanceof Killed) return true;
    throw error;
  } finally {
    isKilled = false;
  }
}

/**
 * For `vi.mock` of undo-exchange.ts: an exchange that {@link killAt} has ended is not reverted, as if the process were
 * gone.
 */
export async function withoutRevert(
  original: () => Promise<typeof import('../../../src/store/exchange/undo-exchange.ts')>,
) {
  const actual = await original();
  return {
    ...actual,
    revertExchange: async (...args: Parameters<typeof actual.revertExchange>) =>
      isKilled ? { now: 'old' as const, left: [] } : actual.revertExchange(...args),
  };
}
