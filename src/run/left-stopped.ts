import type { Engine } from '../docker/engine.ts';
import { findProjectStop, isStoppedByOthers, projectState, STOP_TIMEOUT_S } from '../docker/stops.ts';
import type { JournalEntry } from './journal.ts';

interface LeftDeps {
  engine: Engine;
  /** the agent's own container; default: a stop of its whole project is not looked for */
  agent?: { id: string; project: string; service: string };
}

interface Current {
  id: string;
  running: boolean;
  startedAt: string;
}

/** Why a container is not started. */
interface Left {
  why: string;
  /**
   * Set while the decision is open and the hold stays: the time since when somebody may be stopping the whole project.
   */
  open?: Date;
}

/**
 * Returns why a container must not be started again: somebody else stopped or started it since Lifeboat stopped it. The
 * engine keeps no trace of a stop of a container that is already stopped, so that container is started.
 */
export async function whyLeft(
  { engine, agent }: LeftDeps,
  stop: JournalEntry & { type: 'stop' },
  now: Current,
  { held, projectStop }: { held: ReadonlySet<string>; projectStop?: Date | undefined },
): Promise<Left | undefined> {
  const isSame = now.id === stop.container.id;
  if (isSame ? stop.startedAt !== undefined && now.startedAt !== stop.startedAt : hasRun(now)) {
    const why = now.running
      ? 'was started by somebody else while it was held'
      : 'was stopped by somebody else, and stays so';
    return { why };
  }
  if (now.running || stop.at === undefined) return undefined;
  const own = { id: now.id, at: stop.at, timeout: stop.timeout ?? STOP_TIMEOUT_S, startedAt: now.startedAt };
  if (isSame && (stop.byOthers || (await isStoppedByOthers(engine, own))))
    return { why: 'was stopped by somebody else too, and stays so' };
  if (!agent) return undefined;
  // The engine remembers its last few hundred events only.
  const stopped = projectStop ?? (await findProjectStop(engine, agent, held, new Date(stop.at)));
  if (!stopped) return undefined;
  const project = await projectState(engine, agent, held, stopped);
  if (project === 'up') return undefined;
  if (project === 'stopped')
    return { why: 'stays stopped: the whole project was stopped, and only Lifeboat was started again' };
  return {
    why: 'is not started for now: Lifeboat and other services are being stopped. It is started when they start again',
    open: stopped,
  };
}

/** Returns whether a container ever ran. The engine reports year 1 for never. */
function hasRun({ startedAt }: Current): boolean {
  return Date.parse(startedAt) > 0;
}
