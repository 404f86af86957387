import { hasCode, hasErrno, isDiskError } from '../../base/errors.ts';
import { isUncertain } from '../../destinations/destination.ts';
import { Presence } from '../objects/documents.ts';
import { manifestKey, type ObjectRef } from '../objects/manifest.ts';
import { readIfThere, streamOf } from '../objects/objects.ts';
import type { CommitOptions, Repository, Snapshot } from './repository.ts';
import { expectInfo } from './repository-info.ts';
import { withdrawSnapshot } from './tombstones.ts';

/** A manifest to commit. */
interface Commit {
  /** its `info` is read again right before the put, because the disk may be unmounted by then */
  repository: Pick<Repository, 'destination' | 'project' | 'signing' | 'info' | 'checkObjects'>;
  snapshot: Snapshot;
  bytes: Buffer;
  /** every object that the manifest names */
  objects: readonly ObjectRef[];
}

/**
 * Returns true for a failed put after which the object certainly cannot appear: the destination refused it, and no
 * earlier attempt has an unknown outcome. A disk error or a stale network file system leaves the outcome unknown.
 */
export function isCertainFailure(error: unknown): boolean {
  if (!hasCode(error, 'DEST_FULL', 'DEST_UNWRITABLE')) return false;
  return !isUncertain(error) && !isDiskError(error.cause) && !hasErrno(error.cause, 'ESTALE');
}

/**
 * Puts a manifest. The fence before it claims the manifest's sequence, and its listing shows whether every object that
 * the manifest names exists with the right size. A manifest that arrives after the lease has ended therefore has a
 * place in the chain that no other writer takes. The request is aborted when the lease ends. If a response is lost,
 * Lifeboat reads the manifest back, unless another agent has taken over.
 *
 * @throws LEASE_LOST; DEST_FOREIGN; OBJECT_MISSING, OBJECT_DAMAGED, also if the manifest arrived so late that another
 * agent's prune had removed its objects; what the destination throws
 */
export async function putManifest(commit: Commit, { fence, sending }: CommitOptions): Promise<void> {
  const { repository, snapshot, bytes } = commit;
  const { destination, project, info } = repository;
  const key = manifestKey(project, snapshot.manifest.id);
  const presence = new Presence(commit.objects);
  const signal = await fence?.(snapshot.manifest.sequence, (object) => presence.see(object));
  if (presence.listed) presence.finish();
  else await repository.checkObjects(commit.objects);
  await expectInfo(destination, info);
  sending?.();
  try {
    await destination.put(key, streamOf(bytes), { keepOnFailure: true, newKey: true, ...(signal ? { signal } : {}) });
  } catch (error) {
    if (isCertainFailure(error) || hasCode(error, 'DEST_EXISTS')) throw error;
    await fence?.().catch((lost: unknown) => {
      throw isLost(lost) ? lost : error;
    });
    const there = await readIfThere(destination, key).catch(() => undefined);
    if (!there?.equals(bytes)) throw error;
  }
  // A fence that fails for another reason changes nothing: the manifest is there.
  const lost = await fence?.().then(() => false, isLost);
  if (lost) await expectWhole(commit);
}

/**
 * Withdraws the manifest if its objects are gone. It leaves a tombstone, because the agent that took over may have
 * listed the manifest, and would otherwise take it for lost. A prune leaves unreferenced objects alone for a day, which
 * covers every delay except that of a suspended machine.
 */
async function expectWhole({ repository, snapshot, objects }: Commit): Promise<void> {
  try {
    await repository.checkObjects(objects);
  } catch (error) {
    const isGone = hasCode(error, 'OBJECT_MISSING', 'OBJECT_DAMAGED');
    if (isGone) await withdrawSnapshot(repository, snapshot);
    throw error;
  }
}

function isLost(error: unknown): boolean {
  return hasCode(error, 'LEASE_LOST');
}
