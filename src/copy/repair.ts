import type { State } from '../run/state.ts';
import type { CopyDeps } from './context.ts';

/**
 * Returns the dependencies of a copy in the other direction, from a copy to the destination. The saved states of the
 * copies stay unchanged. Objects that `check` found damaged at the destination are replaced, and then forgotten.
 */
export function backToDestination(state: State): { state: State; repair: NonNullable<CopyDeps['repair']> } {
  return {
    state: {
      ...state,
      // The destination may be ahead of the copy.
      abandoned: async () => Number.POSITIVE_INFINITY,
      copies: async () => ({}),
      saveCopies: async () => undefined,
      saveDamaged: async () => undefined,
    },
    repair: {
      damaged: () => state.damaged(),
      async repaired(keys) {
        if (keys.length > 0) await state.saveDamaged((await state.damaged()).filter((key) => !keys.includes(key)));
      },
    },
  };
}
