import { hasCode, hasErrno, isDiskError } from '../../base/errors.ts';
import { type Destination, isUncertain } from '../../destinations/destination.ts';
import type { RepositoryInfo } from '../objects/manifest.ts';
import { deleteUnlessKept, readIfThere, streamOf } from '../objects/objects.ts';
import type { Lease } from './lease.ts';
import { expectInfo } from './repository-info.ts';

/** How a snapshot is committed. */
export interface CommitOptions {
  /** proof that nobody else writes here, see {@link Lease}: asked right before the manifest is put, and after */
  fence?: Lease['fence'];
  /** Called right before the manifest is sent. From then on it may appear at any time, whatever the outcome of the commit. */
  sending?(): void;
}

/** What a commit puts. */
interface Commit {
  destination: Destination;
  /** the repository that was opened there: looked at again right before, since a disk may be unmounted in between */
  info: RepositoryInfo;
  key: string;
  sequence: number;
  bytes: Buffer;
  /** throws OBJECT_MISSING or OBJECT_DAMAGED unless all that the manifest names is there */
  check(): Promise<void>;
}

/**
 * True for a failure after which a manifest that was sent cannot appear any more: the place refused it, and no attempt before has
 * an unknown outcome. A disk or a network file system that fails says nothing of what it has done.
 */
export function isSettled(error: unknown): boolean {
  if (!hasCode(error, 'DEST_FULL', 'DEST_UNWRITABLE')) return false;
  return !isUncertain(error) && !isDiskError(error.cause) && !hasErrno(error.cause, 'ESTALE');
}

/**
 * Puts a manifest whose objects were checked. The fence before it claims its sequence, so one that is held up on its way, for
 * longer than the lease lasts, has a place in the chain that nobody else takes. The request is given up when the lease is over. An
 * answer that was lost is made up for by a look, if nobody took over meanwhile.
 *
 * @throws LEASE_LOST; DEST_FOREIGN; OBJECT_MISSING when it came so late that a prune elsewhere had removed what it names; what the destination
 * throws
 */
export async function putManifest(commit: Commit, { fence, sending }: CommitOptions): Promise<void> {
  const { destination, key, bytes } = commit;
  const signal = await fence?.(commit.sequence);
  await expectInfo(destination, commit.info);
  sending?.();
  try {
    await destination.put(key, streamOf(bytes), { keepOnFailure: true, ...(signal ? { signal } : {}) });
  } catch (error) {
    if (isSettled(error) || hasCode(error, 'DEST_EXISTS')) throw error;
    await fence?.().catch((lost: unknown) => {
      throw isLost(lost) ? lost : error;
    });
    const there = await readIfThere(destination, key).catch(() => undefined);
    if (!there?.equals(bytes)) throw error;
  }
  // A fence that fails for another reason says nothing: the manifest is there.
  const lost = await fence?.().then(() => false, isLost);
  if (lost) await expectWhole(commit);
}

/** Objects that no manifest names are safe for a day: longer than any hold-up, but for a machine that was suspended. */
async function expectWhole({ destination, key, check }: Commit): Promise<void> {
  try {
    await check();
  } catch (error) {
    const isGone = hasCode(error, 'OBJECT_MISSING', 'OBJECT_DAMAGED');
    if (isGone) await deleteUnlessKept(destination, key);
    throw error;
  }
}

function isLost(error: unknown): boolean {
  return hasCode(error, 'LEASE_LOST');
}
