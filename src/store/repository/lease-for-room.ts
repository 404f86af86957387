import { hasCode } from '../../base/errors.ts';
import type { Lease } from './lease.ts';

/**
 * A lease for who is to make room. A full destination takes no lease, and lets nobody else store there: then the first fence lets
 * pass, and the next one, after something was deleted, takes it.
 *
 * @throws what `take` does, but for DEST_FULL the first time
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
    async fence() {
      if (held) return held.fence();
      if (passed) held = await take();
      passed = true;
      return undefined;
    },
    release: async () => held?.release(),
  };
}
