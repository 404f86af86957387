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
  /** It is not known for good yet, so the hold stays open: the whole project may be being stopped, since then. */
  open?: Date;
}

/**
 * Why a container is not started again: somebody else decided on it since our stop. The engine has no trace of a stop that
 * finds the container stopped already; then it is started.
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
  if (isSame && (await isStoppedByOthers(engine, own)))
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

/** Year 1 stands for never. */
function hasRun({ startedAt }: Current): boolean {
  return Date.parse(startedAt) > 0;
}
