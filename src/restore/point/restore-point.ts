import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo } from '../../base/errors.ts';
import { nameRun } from '../../base/log.ts';
import type { Engine } from '../../docker/engine.ts';
import type { Plan } from '../../plan/model.ts';
import { Journal } from '../../run/journal.ts';
import type { RunDeps } from '../../run/run-deps.ts';
import { newSnapshotId } from '../../store/objects/snapshot-id.ts';
import type { RestoreDeps } from '../context.ts';
import { lockForRestore } from '../lock.ts';
import { type Aim, findReadableStart, type PointDeps } from './find-start.ts';
import {
  AMCHECK_MS,
  type RecoverDeps,
  type RecoveredVolume,
  type RecoveryRequest,
  recoverInto,
} from './recover-into.ts';
import { noteFinished, noteUnfinished, refuseExisting } from './unfinished-volume.ts';

export interface ToVolumeDeps
  extends RecoverDeps,
    PointDeps,
    Pick<RunDeps, 'journals' | 'spool' | 'agentId' | 'recover' | 'clear' | 'now' | 'plan' | 'state'> {
  lock: RestoreDeps['lock'];
  engine: Engine;
}

export interface PointRequest extends Aim {
  source: string;
  /** name of the new volume */
  toVolume: string;
  signal: AbortSignal;
  say(line: string): void;
}

/** The result of a recovery to a point in time. */
export interface PointResult extends RecoveredVolume {
  durationMs: number;
}

/**
 * Recovers a server to a point in time, into a new volume: restores the base backup before that point, and replays the
 * WAL after it in a helper of the recorded image. The server that the source has now stays as it is.
 *
 * @throws PITR_TIME, before anything is made; TREE_TARGET_NOT_EMPTY if the volume exists; PG_RESTORE_FAILED;
 * KEY_MISSING, OBJECT_*, HELPER_FAILED
 */
export async function restoreToPoint(deps: ToVolumeDeps, request: PointRequest): Promise<PointResult> {
  const find = async () => {
    const found = await findReadableStart(deps, request);
    await refuseExisting(deps, request.toVolume);
    return found;
  };
  const lock = await lockForRestore(deps, { ask: true, check: find });
  const begun = deps.now();
  try {
    await deps.recover();
    const { repository, start } = await find();
    const id = newSnapshotId(begun);
    nameRun(id);
    const journal = new Journal(deps.journals, { type: 'start', verb: 'restore', id, agent: deps.agentId });
    const directory = path.join(deps.spool, id);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      const planned = await ofPlan(deps, request.source);
      await noteUnfinished(deps.state, request.toVolume, id);
      const recovery = { repository, start, id, journal, directory, volume: request.toVolume };
      const { server, ...done } = await recoverInto(deps, { ...request, ...planned }, recovery);
      await server.remove();
      // The volume is complete, whether or not that can be recorded.
      await noteFinished(deps.state, request.toVolume).catch((error: unknown) =>
        deps.log.warn('the agent cannot record that the volume is complete', { ...errorInfo(error) }),
      );
      return { ...done, durationMs: deps.now().getTime() - begun.getTime() };
    } catch (error) {
      request.say(
        `  the recovery failed; if there is a volume ${request.toVolume} now, remove it with \`docker volume rm\``,
      );
      throw error;
    } finally {
      await deps.clear(directory, id);
      await journal.close();
    }
  } finally {
    await lock.release();
  }
}

/** Returns what the plan says of a source. The data of a source that is not in the plan is not checked. */
async function ofPlan(
  { plan }: Pick<RunDeps, 'plan'>,
  source: string,
): Promise<Pick<RecoveryRequest, 'amcheck' | 'presentImage'>> {
  const { sources = [] } = await plan().catch((): Partial<Plan> => ({}));
  const planned = sources.find((one) => one.kind === 'postgres' && one.name === source);
  if (planned?.kind !== 'postgres') return {};
  return { presentImage: planned.imageId, amcheck: { planned, limitMs: AMCHECK_MS } };
}
