import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, hasCode } from '../base/errors.ts';
import { engineStatusOf } from '../docker/engine-errors.ts';
import { type MarkerDeps, placeMarker } from '../docker/marker.ts';
import { type Lock, takeLock } from './process-lock.ts';

/**
 * Takes the lock of a project: a socket among the processes of this agent, and a marker container among all agents of
 * the engine. If the engine cannot create a container (a proxy refuses it, or the engine is away), the run continues
 * without the marker.
 *
 * @throws LOCKED when another process or another running agent holds the lock
 */
export async function takeRunLock(deps: MarkerDeps, options?: { ask: boolean }): Promise<Lock> {
  const lock = await takeLock(deps.project, options);
  try {
    const removeMarker = await placeMarker(deps).catch((error: unknown) => withoutMarker(deps, error));
    return {
      ...lock,
      async release() {
        await removeMarker();
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

function withoutMarker({ log }: MarkerDeps, error: unknown): () => Promise<void> {
  if (hasCode(error, 'LOCKED')) throw error;
  const say = engineStatusOf(error) === 403 ? log.info : log.warn;
  say('other Lifeboat instances cannot see that a run is in progress', { ...errorInfo(error) });
  return async () => undefined;
}

const RETRY_MS = 150;

/** Takes a lock, and repeats that for `ms` milliseconds while another process holds it. Throws what `take` throws. */
export async function withPatience(ms: number, take: () => Promise<Lock>): Promise<Lock> {
  const end = performance.now() + ms;
  for (;;) {
    try {
      return await take();
    } catch (error) {
      if (!hasCode(error, 'LOCKED') || performance.now() > end) throw error;
      await sleep(RETRY_MS);
    }
  }
}
