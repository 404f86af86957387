import type { Lease } from './lease.ts';

/** The maximum age of a fence's proof when an object is deleted, milliseconds. */
const PROOF_MS = 30_000;

/**
 * Returns a fence for many deletions in a row, to call before each of them. It asks the destination only when the last
 * proof is too old. A writer that was held up halfway therefore stops before it deletes an object that another agent
 * already uses.
 *
 * @returns a function that throws what `fence` throws; call it with `true` to ask the destination in any case
 */
export function fenceOften(fence: Lease['fence'], now: () => Date): (always?: boolean) => Promise<void> {
  let proven = Number.NEGATIVE_INFINITY;
  let proving: Promise<void> | undefined;
  const prove = async (at: number) => {
    await fence();
    proven = at;
  };
  return async (always = false) => {
    const at = now().getTime();
    // A clock that was set back does not show how much time has passed, hence the absolute difference.
    if (!always && Math.abs(at - proven) <= PROOF_MS) return;
    // Deletions that run at the same time share a proof.
    proving ??= prove(at).finally(() => {
      proving = undefined;
    });
    await proving;
  };
}
