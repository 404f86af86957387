import type { Lease } from './lease.ts';

/** A deletion follows the proof that nobody else writes by no more than this, milliseconds. */
const PROOF_MS = 30_000;

/**
 * A fence for many deletions in a row: asked before each of them, it asks the destination when the last proof is too old. So a writer
 * that was held up in the middle of them stops, before it deletes what another agent has begun to use.
 *
 * @returns call it with `true` to ask in any case; it throws what `fence` does
 */
export function fenceOften(fence: Lease['fence'], now: () => Date): (always?: boolean) => Promise<void> {
  let proven = Number.NEGATIVE_INFINITY;
  return async (always = false) => {
    const at = now().getTime();
    // Either way: a clock that was set back says nothing of the time that went by.
    if (!always && Math.abs(at - proven) <= PROOF_MS) return;
    await fence();
    proven = at;
  };
}
