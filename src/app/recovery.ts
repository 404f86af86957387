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
 * Recovers restores into copies of the project that died: with the first call, also forgets copies that are gone. A
 * call while a sweep is under way waits for that one. Never rejects: logs failures, and a later call tries again.
 */
export function sweepsOfCopies({ engine, log, settings }: Environment): () => Promise<void> {
  const recover = async (into: string) => {
    // It is under way.
    if (await isLocked(into)) return false;
    await recoverAlone(await openEnvironment({ settings, log }, { into }));
    return true;
  };
  return createSweeps({ engine, log, spool: SPOOL, recover });
}

/** A copy whose recovery failed is left alone for this long, milliseconds: each try asks the destination. */
const PAUSE_MS = 10 * 60_000;

/** Returns what {@link sweepsOfCopies} describes. */
export function createSweeps(deps: Omit<SweepDeps, 'failedAt'>): () => Promise<void> {
  const failedAt = new Map<string, number>();
  let [forget, running]: [boolean, Promise<void> | undefined] = [true, undefined];
  return () => {
    running ??= sweepCopies({ ...deps, failedAt }, { forget }).finally(() => {
      running = undefined;
    });
    forget = false;
    return running;
  };
}

interface SweepDeps {
  engine: Pick<Engine, 'listContainers' | 'inspectVolume'>;
  log: Log;
  spool: string;
  /** resolves to whether it tried */
  recover(project: string): Promise<boolean>;
  /** when the last recovery of a copy failed, by its project; by the clock of `performance` */
  failedAt: Map<string, number>;
}

/**
 * Calls `recover` for each copy with a dead restore and containers. With `forget`, removes the state of copies that are
 * gone: without containers, and without the volumes that restores filled. A copy that is being made again may have none
 * for a moment.
 */
async function sweepCopies(
  { engine, log, spool, recover, failedAt }: SweepDeps,
  { forget }: { forget: boolean },
): Promise<void> {
  for (const project of await copiesIn(spool)) {
    const directory = path.join(spoolOf(project, spool), 'state');
    const hasDead = async () => (await openJournals(path.join(directory, 'runs'))).length > 0;
    try {
      const isDead = await hasDead();
      const mayTry = performance.now() - (failedAt.get(project) ?? Number.NEGATIVE_INFINITY) >= PAUSE_MS;
      if (!forget && !(isDead && mayTry)) continue;
      const containers = await engine.listContainers({ labels: [`com.docker.compose.project=${project}`] });
      // Without containers, it waits until they are made again.
      const hasTried = containers.length > 0 && isDead && (await recover(project));
      // A recovery logs its failures.
      if (hasTried && (await hasDead())) failedAt.set(project, performance.now());
      if (containers.length > 0 || !forget || (await hasVolumes(engine, directory))) continue;
      log.info('a copy of the project is gone, so its restores are forgotten', { project });
      await removePath(path.dirname(spoolOf(project, spool)), project);
    } catch (error) {
      failedAt.set(project, performance.now());
      log.warn('a restore into a copy could not be undone; trying again later', { project, ...errorInfo(error) });
    }
  }
}

async function hasVolumes(engine: Pick<Engine, 'inspectVolume'>, directory: string): Promise<boolean> {
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
