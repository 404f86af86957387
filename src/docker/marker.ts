import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Engine } from './engine.ts';
import { engineStatusOf, isNotFound } from './engine-errors.ts';
import { createBody } from './helper.ts';
import { AGENT_LABEL, MARKER_RUN, PROBE_RUN, PROJECT_LABEL, RUN_LABEL } from './helper-labels.ts';

/**
 * The marker of a run: a container that is created but never started, with one name per project. The engine assigns a
 * name once, so it refuses one of two agents that begin at the same time, and every agent can see who owns the marker.
 */

/** Dependencies of {@link placeMarker}. */
export interface MarkerDeps {
  engine: Engine;
  project: string;
  /** the agent's own container */
  agent: { id: string; imageId: string };
  log: Log;
}

/** The number of attempts to get the name: a dead agent's marker may be in the way. */
const TRIES = 5;
const PAUSE_MS = 100;

/** Returns whether a container runs; false if it is gone. @throws ENGINE_* */
export async function isRunning(engine: Engine, id: string): Promise<boolean> {
  return (await runningName(engine, id)) !== undefined;
}

async function runningName(engine: Engine, id: string): Promise<string | undefined> {
  try {
    const { name, running } = await engine.inspectContainer(id);
    return running ? name : undefined;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/**
 * Places the marker of this agent on a project. The caller holds the lock among the agent's processes. Removes the
 * marker of a dead agent, or of a dead process of this one. Returns a function that removes the marker and never
 * rejects.
 *
 * @throws LOCKED when another running agent works on the project; ENGINE_* when the engine cannot create a marker
 */
export async function placeMarker(deps: MarkerDeps): Promise<() => Promise<void>> {
  const { engine, project, agent, log } = deps;
  const name = markerName(project);
  for (let tried = 1; ; tried++) {
    await refuseIfOtherWorks(deps);
    try {
      const { labels } = await engine.inspectImage(agent.imageId);
      const spec = { purpose: 'lock', runId: MARKER_RUN, project, agent: agent.id, image: agent.imageId };
      const { id } = await engine.createContainer(name, createBody(spec, labels, { attached: false, blkio: false }));
      return () => removeMarker(engine, id, log);
    } catch (error) {
      // 409: the name is taken, by a faster agent or by a marker that is being removed.
      if (engineStatusOf(error) !== 409 || tried === TRIES) throw error;
    }
    await sleep(PAUSE_MS);
  }
}

/** Returns the marker's name. Names of Compose's own containers end in a number, so they never match. */
function markerName(project: string): string {
  return `lifeboat-${project.replace(/[^A-Za-z0-9_.-]/g, '-')}-lock`;
}

async function refuseIfOtherWorks({ engine, project, agent }: MarkerDeps): Promise<void> {
  const found = await engine.listContainers({ labels: [RUN_LABEL, `${PROJECT_LABEL}=${project}`] });
  for (const { id, labels } of found) {
    const run = labels[RUN_LABEL] ?? '';
    // A helper of `lifeboat plan` changes nothing.
    if (labels[PROJECT_LABEL] !== project || run.startsWith(PROBE_RUN)) continue;
    const owner = labels[AGENT_LABEL];
    const other = owner && owner !== agent.id ? await runningName(engine, owner) : undefined;
    if (other !== undefined) {
      throw new LifeboatError('LOCKED', `another Lifeboat instance works on project ${project}: ${other}`, {
        hint: `Wait until the run in container ${other} has ended, then try again. Run only one Lifeboat instance for each project.`,
      });
    }
    if (run === MARKER_RUN) await removeIfThere(engine, id);
  }
}

async function removeMarker(engine: Engine, id: string, log: Log): Promise<void> {
  try {
    await removeIfThere(engine, id);
  } catch (error) {
    log.warn('the marker of the run could not be removed; the next run does', { ...errorInfo(error) });
  }
}

async function removeIfThere(engine: Engine, id: string): Promise<void> {
  try {
    // By id, because another agent may have placed a marker with that name in the meantime.
    await engine.removeContainer(id, { force: true, volumes: true });
  } catch (error) {
    if (!isNotFound(error) && engineStatusOf(error) !== 409) throw error;
  }
}
