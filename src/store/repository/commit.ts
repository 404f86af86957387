import { hasCode, hasErrno, isDiskError } from '../../base/errors.ts';
import { isUncertain, type ObjectInfo } from '../../destinations/destination.ts';
import { compareKeys } from '../../destinations/keys.ts';
import type { Listing } from '../../destinations/listing.ts';
import { Presence } from '../objects/documents.ts';
import { manifestKey, type ObjectRef } from '../objects/manifest.ts';
import { readIfThere, streamOf } from '../objects/objects.ts';
import { pinKey, putPin } from './pins.ts';
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
 * An imported file is pinned first, so that no prune ever finds it without its pin. A pin alone has no effect. A
 * recovery is not pinned: while the window holds its point, it can be made again.
 *
 * @throws LEASE_LOST; DEST_FOREIGN; OBJECT_MISSING, OBJECT_DAMAGED, also if the manifest arrived so late that another
 * agent's prune had removed its objects; what the destination throws
 */
export async function putManifest(commit: Commit, { fence, pinning, sending, listed }: CommitOptions): Promise<void> {
  const { repository, snapshot, bytes } = commit;
  const { destination, project, info } = repository;
  const key = manifestKey(project, snapshot.manifest.id);
  const presence = new Presence(commit.objects);
  const manifest = listed && new WithObject(listed, { key, size: bytes.length });
  const signal = await fence?.(snapshot.manifest.sequence, (object) => {
    presence.see(object);
    manifest?.add(object);
  });
  if (presence.listed) manifest?.finish();
  if (presence.listed) presence.finish();
  else await repository.checkObjects(commit.objects);
  await expectInfo(destination, info);
  const { id, imported, end } = snapshot.manifest;
  if (imported && imported.kind !== 'recovery') {
    pinning?.(pinKey(project, id));
    await putPin(repository, id, { reason: `imported from ${imported.file}`, at: end });
  }
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

/** Adds the objects of a listing to another one, and one more object at its place in the order. */
class WithObject {
  private readonly listed: Listing;
  private own: ObjectInfo | undefined;

  constructor(listed: Listing, own: ObjectInfo) {
    this.listed = listed;
    this.own = own;
  }

  add(object: ObjectInfo): void {
    if (this.own && compareKeys(object.key, this.own.key) > 0) this.finish();
    this.listed.add(object);
  }

  finish(): void {
    if (this.own) this.listed.add(this.own);
    this.own = undefined;
  }
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
