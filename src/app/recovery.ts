import path from 'node:path';
import { errorInfo, hasCode } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import { rememberedVolumes } from '../kept/copy-data.ts';
import { createDispatcher } from '../report/dispatch.ts';
import { openJournals } from '../run/journal.ts';
import { SPOOL } from '../run/mounts.ts';
import { isLocked } from '../run/process-lock.ts';
import { removePath } from '../store/filesystem/remove-tree.ts';
import { type Environment, openEnvironment } from './environment.ts';
import { copiesIn, spoolOf } from './into-project.ts';
import { recoverOn } from './wiring.ts';

/** Recovers dead runs, unless another run has the lock: that run has already done so. */
export async function recoverAlone(environment: Environment): Promise<void> {
  const held = await environment.lock({ patient: false }).catch((error: unknown) => {
    if (hasCode(error, 'LOCKED')) return undefined;
    throw error;
  });
  if (!held) return;
  const dispatcher = createDispatcher(environment.notifiers, { log: environment.log });
  try {
    await recoverOn(environment, dispatcher);
  } finally {
    await held.release();
    await dispatcher.flush();
  }
}

/**
 * Recovers restores into copies of the project that died. Never rejects: logs failures, and the next call tries again.
 *
 * @param options see {@link sweepCopies}
 */
export async function recoverCopies(
  { engine, log, settings }: Environment,
  options: { forget: boolean },
): Promise<void> {
  const recover = async (into: string) => {
    // Not one that is under way.
    if (!(await isLocked(into))) await recoverAlone(await openEnvironment({ settings, log }, { into }));
  };
  await sweepCopies({ engine, log, spool: SPOOL, recover }, options);
}

interface SweepDeps {
  engine: Pick<Engine, 'listContainers' | 'inspectVolume'>;
  log: Log;
  spool: string;
  recover(project: string): Promise<void>;
}

/**
 * Calls `recover` for each copy with a dead restore. With `forget`, removes the state of copies that are gone: without
 * containers, and without the volumes that restores filled. A copy that is being made again may have none for a moment.
 */
export async function sweepCopies(
  { engine, log, spool, recover }: SweepDeps,
  { forget }: { forget: boolean },
): Promise<void> {
  for (const project of await copiesIn(spool)) {
    const directory = path.join(spoolOf(project, spool), 'state');
    try {
      const isDead = (await openJournals(path.join(directory, 'runs'))).length > 0;
      if (!forget && !isDead) continue;
      const isThere = await exists(engine, project, directory);
      if (isThere && isDead) await recover(project);
      if (isThere || !forget) continue;
      log.info('a copy of the project is gone, so its restores are forgotten', { project });
      await removePath(path.dirname(spoolOf(project, spool)), project);
    } catch (error) {
      log.warn('a restore into a copy could not be undone; trying again later', { project, ...errorInfo(error) });
    }
  }
}

async function exists(
  engine: Pick<Engine, 'listContainers' | 'inspectVolume'>,
  project: string,
  directory: string,
): Promise<boolean> {
  const containers = await engine.listContainers({ labels: [`com.docker.compose.project=${project}`] });
  if (containers.length > 0) return true;
  for (const volume of await rememberedVolumes(directory)) {
    const isThere = await engine.inspectVolume(volume).then(
      () => true,
      (error: unknown) => {
        if (isNotFound(error)) return false;
        throw error;
      },
    );
    if (isThere) return true;
  }
  return false;
}
