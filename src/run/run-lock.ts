import { errorInfo, hasCode } from '../base/errors.ts';
import { statusOf } from '../docker/engine-errors.ts';
import { type MarkerDeps, placeMarker } from '../docker/marker.ts';
import { type Lock, takeLock } from './process-lock.ts';

/**
 * Takes the right to work on a project: among the processes of this agent by a socket, among all agents of the engine by
 * a marker that each of them can see. An engine that lets no container be made (behind a proxy, or away) costs the
 * marker, not the run.
 *
 * Errors: LOCKED when another process or another running agent has it.
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
  const say = statusOf(error) === 403 ? log.info : log.warn;
  say('other agents cannot be told of the run', { ...errorInfo(error) });
  return async () => undefined;
}
