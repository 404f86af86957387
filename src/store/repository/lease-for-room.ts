import { hasCode } from '../../base/errors.ts';
import type { Lease } from './lease.ts';

/**
 * Takes a lease for a prune. A full destination has no room for the lease, but no other agent can store there either.
 * In that case the first fence passes without a lease, and the next fence, after objects were deleted, takes it.
 *
 * @throws what `take` throws, except DEST_FULL the first time
 */
export async function takeLeaseOnceThereIsRoom(take: () => Promise<Lease>): Promise<Lease> {
  let held = await take().catch((error: unknown) => {
    if (!hasCode(error, 'DEST_FULL')) throw error;
    return undefined;
  });
  let passed = held !== undefined;
  return {
    get token() {
      return held?.token;
    },
    async fence(...given) {
      if (held) return held.fence(...given);
      if (passed) held = await take();
      passed = true;
      return undefined;
    },
    release: async () => held?.release(),
  };
}
