import { startTimer } from '../../run/timer.ts';
import { newSnapshotId } from '../../store/objects/snapshot-id.ts';
import type { RestoreRequest, RestoreResult } from '../context.ts';
import { lockForRestore } from '../lock.ts';
import { openPart } from '../part.ts';
import { carryOut } from '../restore.ts';
import { findReadableStart } from './find-start.ts';
import { type InPlaceDeps, type InPlaceRequest, prepareInPlace } from './prepare-in-place.ts';
import { describePoint } from './target.ts';

/**
 * Recovers a server to a point in time, and puts the result in place of the data directory in use. The server and the
 * services that use it run until the recovered data is complete and checked. They are stopped while the content of the
 * data directory is exchanged. The old data stays for a rollback.
 *
 * @throws PITR_TIME, SOURCE_UNKNOWN, TREE_TARGET_REFUSED, TREE_TARGET_FULL, NOT_CONFIRMED, PG_RESTORE_FAILED,
 * KEY_MISSING, OBJECT_*, HELPER_FAILED, all before anything in use changes. RESTORE_UNHEALTHY is in the report: the
 * data is in place, and the server or a service that uses it is not healthy.
 */
export async function restoreInPlace(deps: InPlaceDeps, request: InPlaceRequest): Promise<RestoreResult> {
  const find = () => findReadableStart(deps, request);
  const lock = await lockForRestore(deps, { ask: request.canConfirm && !request.dryRun, check: find });
  const startedAt = deps.now();
  const ended = startTimer(deps.now, startedAt);
  try {
    await deps.recover();
    const { repository, start, packs } = await find();
    const { snapshot, entry } = start;
    const wanted =
      request.target === 'latest'
        ? `the latest stored time, ${start.window.to}`
        : describePoint(request.target, start.marker);
    request.say(`Recover ${request.source} in place, to ${wanted}`);
    const id = newSnapshotId(startedAt);
    const whole = asRestore(request, snapshot.id);
    const opened = await openPart(deps, whole, { repository, snapshot, entry, packs }, { id, startedAt });
    try {
      return await carryOut({ ...deps, ended }, whole, opened, (context) =>
        prepareInPlace(deps, request, { context, start }),
      );
    } finally {
      await opened.close();
    }
  } finally {
    await lock.release();
  }
}

/** Returns a recovery in place as a restore of a whole source. Without a safety snapshot: the former WAL is stored. */
function asRestore({ target: _, timeline: __, ...request }: InPlaceRequest, snapshot: string): RestoreRequest {
  return {
    ...request,
    snapshot,
    ...{ tables: [], paths: [], overwrite: false, globals: false, unsigned: false },
    ...{ safety: false, skipFailed: false, live: false },
  };
}
