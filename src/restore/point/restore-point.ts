import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';
import { nameRun } from '../../base/log.ts';
import type { Engine } from '../../docker/engine.ts';
import { isNotFound } from '../../docker/engine-errors.ts';
import { Journal } from '../../run/journal.ts';
import type { RunDeps } from '../../run/run-deps.ts';
import { newSnapshotId } from '../../store/objects/snapshot-id.ts';
import { readPacks } from '../../store/repository/pack-lists.ts';
import type { Repository } from '../../store/repository/repository.ts';
import { requireKeys } from '../../store/seal/encryption.ts';
import type { RestoreDeps } from '../context.ts';
import { lockForRestore } from '../lock.ts';
import { type Aim, findStart } from './find-start.ts';
import { type RecoverDeps, type RecoveredVolume, recoverInto } from './recover-into.ts';

export interface PointDeps
  extends RecoverDeps,
    Pick<RunDeps, 'journals' | 'spool' | 'agentId' | 'recover' | 'clear' | 'now'> {
  lock: RestoreDeps['lock'];
  engine: Engine;
  repository(): Promise<Repository>;
  /** until when the server of a source is known to have written nothing more, by its system identifier */
  confirmed(source: string): Promise<Parameters<typeof findStart>[2]>;
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
export async function restoreToPoint(deps: PointDeps, request: PointRequest): Promise<PointResult> {
  const find = async () => {
    const repository = await deps.repository();
    const start = await findStart(repository, request, await deps.confirmed(request.source));
    const { index, facts } = start.entry;
    const packs = await readPacks(repository, start.entry, request.signal);
    requireKeys([index, facts, ...packs], repository.keys);
    await refuseExisting(deps.engine, request.toVolume);
    return { repository, start };
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
      const { server, ...done } = await recoverInto(deps, request, {
        ...{ repository, start, id, journal, directory },
        volume: request.toVolume,
      });
      await server.remove();
      return { ...done, durationMs: deps.now().getTime() - begun.getTime() };
    } catch (error) {
      // Lifeboat never removes a volume of the user's, so that no mistake can cost data.
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

/** @throws TREE_TARGET_NOT_EMPTY */
async function refuseExisting(engine: Engine, volume: string): Promise<void> {
  try {
    await engine.inspectVolume(volume);
  } catch (error) {
    if (isNotFound(error)) return;
    throw error;
  }
  throw new LifeboatError('TREE_TARGET_NOT_EMPTY', `there is a volume ${volume} already`, {
    hint: 'Name a volume that does not exist yet. Lifeboat creates it.',
  });
}
