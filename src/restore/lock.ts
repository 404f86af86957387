import { hasCode } from '../base/errors.ts';
import type { Lock } from '../run/process-lock.ts';
import type { RestoreDeps } from './context.ts';

/**
 * Takes the lock of the project. If another run holds it, checks the request first, because a copy that holds the lock
 * ends when it is asked to. A request that fails anyway must not end it.
 *
 * @param ask whether to ask a copy that holds the lock to give way
 * @param check throws if the request cannot succeed
 * @throws LOCKED; what `check` throws
 */
export async function lockForRestore(
  deps: Pick<RestoreDeps, 'lock'>,
  { ask, check }: { ask: boolean; check(): Promise<unknown> },
): Promise<Lock> {
  try {
    return await deps.lock({ ask: false, patient: false });
  } catch (error) {
    if (!hasCode(error, 'LOCKED')) throw error;
  }
  await check();
  return deps.lock({ ask });
}
