import { errorInfo } from '../base/errors.ts';
import { isLocking } from '../destinations/destination.ts';
import type { Problem } from '../plan/model.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { objectsOf } from '../store/repository/pack-lists.ts';
import type { Repository } from '../store/repository/repository.ts';
import { INFO_KEY } from '../store/repository/repository-info.ts';

/**
 * Extends locks at a destination that locks objects, so that everything a new snapshot needs is locked as long as the
 * snapshot itself, including packs of older snapshots. Called before the commit. Returns a warning for objects that it
 * cannot lock: the snapshot is made anyway, because a missing snapshot is worse than a missing lock.
 */
export async function prolongLocks(
  repository: Pick<Repository, 'destination' | 'readPackList'>,
  manifest: Manifest,
  now: Date,
  signal: AbortSignal,
): Promise<Problem[]> {
  const { destination } = repository;
  if (!isLocking(destination)) return [];
  try {
    const objects = await objectsOf(repository, manifest, signal);
    await destination.prolongLocks([INFO_KEY, ...objects.map(({ key }) => key)], now, signal);
    return [];
  } catch (error) {
    signal.throwIfAborted();
    const { code, message, hint } = errorInfo(error);
    const what = `older packs may be locked for a shorter time than this snapshot: ${message}`;
    return [{ severity: 'warning', code, subject: destination.name, message: what, ...(hint ? { hint } : {}) }];
  }
}
