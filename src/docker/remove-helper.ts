import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Engine } from './engine.ts';
import { isForbidden, isNotFound } from './engine-errors.ts';
import { AGENT_LABEL, type HelperLabels, MARKER_RUN, PROJECT_LABEL, RUN_LABEL } from './helper-labels.ts';

/** The hint of errors about a helper that still exists. */
export const REMOVE_HINT =
  'Find it with `docker ps --filter label=dev.lifeboat.run`. A process that waits for a disk cannot be killed. Restart the Docker engine, or remove it with `docker rm -f`.';

/** The pause between two requests to remove a container, milliseconds. */
const REMOVE_PAUSE_MS = 200;

/**
 * Removes a container. Resolves to whether no process of it runs any more. The engine answers a second request with 409
 * while the first is under way, and with 404 once the container is gone (moby, daemon/delete.go), so the request is
 * repeated for up to `exitLagMs`. Takes no signal, because the removal continues after the run is aborted.
 */
export async function removeContainer(engine: Engine, id: string, name: string, log: Log): Promise<boolean> {
  const until = performance.now() + engine.exitLagMs;
  for (;;) {
    try {
      await engine.removeContainer(id, { force: true, volumes: true });
      return true;
    } catch (error) {
      if (isNotFound(error)) return true;
      if (!isForbidden(error) && performance.now() < until) {
        await sleep(REMOVE_PAUSE_MS);
        continue;
      }
      log.warn('a helper could not be removed and is left for the next clean-up', { name, ...errorInfo(error) });
    }
    return hasEnded(engine, id);
  }
}

/** Returns whether a container has ended or is gone; false if the engine does not answer. */
async function hasEnded(engine: Engine, id: string): Promise<boolean> {
  try {
    return !(await engine.inspectContainer(id)).running;
  } catch (error) {
    return isNotFound(error);
  }
}

/** States in which no process of a container runs: the engine names a running one first (moby, container/state.go). */
const ENDED = ['created', 'exited', 'dead', 'removing'];

/** Returns whether a helper of that run may still be running. Rejects if the engine does not answer. */
export async function hasHelpers(engine: Engine, project: string, runId: string): Promise<boolean> {
  const found = await engine.listContainers({ labels: [`${RUN_LABEL}=${runId}`, `${PROJECT_LABEL}=${project}`] });
  return found.some(({ state }) => !ENDED.includes(state));
}

/**
 * Removes the helpers of a project except those to keep, running or not, with their anonymous volumes. Touches only
 * containers that have both helper labels with exactly this project, and never markers. A helper that cannot be removed
 * is logged, and left for the next time. Resolves to the names of the helpers to remove, and to the runs whose helpers
 * still exist: those that were kept, and those that could not be removed.
 */
export async function reapHelpers(
  engine: Engine,
  project: string,
  keep: (helper: HelperLabels) => boolean | Promise<boolean>,
  log: Log,
): Promise<{ found: string[]; living: Set<string> }> {
  const found = await engine.listContainers({ labels: [RUN_LABEL, `${PROJECT_LABEL}=${project}`] });
  const ours: ((typeof found)[number] & { runId: string })[] = [];
  const living = new Set<string>();
  for (const each of found) {
    const { [RUN_LABEL]: runId, [PROJECT_LABEL]: of, [AGENT_LABEL]: agent = '' } = each.labels;
    if (runId === undefined || runId === MARKER_RUN || of !== project) continue;
    if (await keep({ runId, agent })) living.add(runId);
    else ours.push({ ...each, runId });
  }
  // The newest first, one at a time: a helper can mount the anonymous volume of an older one, and the engine keeps a
  // volume that is still mounted. The engine lists the newest first, and its times are only whole seconds.
  for (const { id, name, runId } of ours.toSorted((a, b) => b.created - a.created)) {
    if (!(await removeContainer(engine, id, name, log))) living.add(runId);
  }
  return { found: ours.map(({ name }) => name), living };
}

/** Checks that no helper of the run still exists. @throws HELPER_FAILED */
export function requireGone(living: ReadonlySet<string>, runId: string): void {
  if (!living.has(runId)) return;
  throw new LifeboatError('HELPER_FAILED', 'a helper of the run could not be removed and may still be running', {
    hint: REMOVE_HINT,
  });
}
