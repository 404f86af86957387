import { errorInfo } from '../base/errors.ts';
import { isLocking } from '../destinations/destination.ts';
import type { Problem } from '../plan/model.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { objectsOf } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';
import { INFO_KEY } from '../store/repository/repository-info.ts';

/**
 * Where the destination locks what is stored, sees to it that all that a new snapshot needs is locked for as long as the snapshot
 * itself: packs of older ones too. To be called before the commit. What cannot be locked is told, and the snapshot is made all
 * the same: it would be missed more than its lock.
 */
export async function prolongLocks(
  { destination }: Pick<Repository, 'destination'>,
  manifest: Manifest,
  now: Date,
  signal: AbortSignal,
): Promise<Problem[]> {
  if (!isLocking(destination)) return [];
  try {
    await destination.prolongLocks([INFO_KEY, ...objectsOf(manifest).map(({ key }) => key)], now, signal);
    return [];
  } catch (error) {
    signal.throwIfAborted();
    const { code, message, hint } = errorInfo(error);
    const what = `older packs may be locked for a shorter time than this snapshot: ${message}`;
    return [{ severity: 'warning', code, subject: destination.name, message: what, ...(hint ? { hint } : {}) }];
  }
}
