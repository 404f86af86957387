import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineEvent } from './answers.ts';
import type { Engine, EventsOptions } from './engine.ts';

/** A signal that somebody had the engine send to a container. */
interface Kill {
  id: string;
  /** seconds since the epoch, by the engine's clock */
  at: number;
  signal: number;
}

/** Docker's default time until a stop kills a container, seconds. */
export const STOP_TIMEOUT_S = 10;

/** The time limit for reading the engine's past events, milliseconds. */
const LIMIT_MS = 5000;

/** The engine reports the end of a container at most this long after the answer to the stop request, milliseconds. */
const DIE_LAG_MS = 1000;

/** HUP, USR1 and USR2 make a service reload its settings or reopen its logs. They end no service. */
const HARMLESS = new Set([1, 10, 12]);

/**
 * Returns the signals that were meant to end containers, oldest first, as far as the engine remembers. A stop of a
 * container that has already ended leaves no trace (Docker 20.10: status 304 and no event). Returns none if the engine
 * does not answer.
 */
export async function killsSince(
  engine: Pick<Engine, 'events'>,
  since: Date,
  which: Pick<EventsOptions, 'containers' | 'labels'>,
): Promise<Kill[]> {
  const events = await eventsSince(engine, since, { ...which, actions: ['kill'] });
  return killsAmong(events);
}

function killsAmong(events: readonly EngineEvent[]): Kill[] {
  return events.flatMap(({ action, id, time, attributes }) => {
    const signal = Number(attributes.signal);
    return action === 'kill' && !HARMLESS.has(signal) ? [{ id, at: time, signal }] : [];
  });
}

async function eventsSince(
  engine: Pick<Engine, 'events'>,
  since: Date,
  which: Pick<EventsOptions, 'containers' | 'labels' | 'actions'>,
): Promise<EngineEvent[]> {
  const found: EngineEvent[] = [];
  const limit = AbortSignal.timeout(LIMIT_MS);
  try {
    const times = { since: since.getTime() / 1000, until: Date.now() / 1000 };
    for await (const event of await engine.events({ ...which, ...times, signal: limit })) found.push(event);
  } catch {
    return found;
  }
  return found;
}

/** A stop that Lifeboat requested. */
interface OwnStop {
  id: string;
  /** ISO time right before the request */
  at: string;
  /** seconds until the engine kills the container */
  timeout: number;
  /** ISO time of the container's last start, before the stop */
  startedAt: string;
}

const KILL = 9;

/**
 * Returns whether somebody else also stopped a container while Lifeboat's stop was under way, as far as the engine
 * remembers. {@link watchStop} does not depend on that, but needs an agent that lives until the stop ends.
 */
export async function isStoppedByOthers(engine: Engine, stop: OwnStop): Promise<boolean> {
  return isStoppedTwice(await killsSince(engine, sinceOf(stop), { containers: [stop.id] }), stop.timeout);
}

/**
 * Follows a stop that Lifeboat is about to request. Call `end` when the stop is over, or was not requested. It resolves
 * to whether somebody else also stopped the container meanwhile. Without events, because a proxy refuses or cuts them,
 * it resolves to false.
 *
 * The engine remembers its last 256 events only. Health checks and commands on a busy host replace those within
 * seconds.
 */
export async function watchStop(engine: Pick<Engine, 'events'>, stop: OwnStop): Promise<{ end(): Promise<boolean> }> {
  const events: EngineEvent[] = [];
  const stopWatching = new AbortController();
  const { signal } = stopWatching;
  const limit = setTimeout(() => stopWatching.abort(), LIMIT_MS);
  const which = { since: sinceOf(stop).getTime() / 1000, containers: [stop.id], actions: ['kill', 'die'], signal };
  const stream = await engine.events(which).catch(() => undefined);
  clearTimeout(limit);
  const follow = async () => {
    for await (const event of stream ?? []) {
      events.push(event);
      // The engine sends events in order, so no signal follows. A container that died before was started again.
      if (event.action === 'die' && killsAmong(events).length > 0) return;
    }
  };
  const ended = follow().catch(() => {});
  return {
    async end() {
      await Promise.race([ended, sleep(DIE_LAG_MS, undefined, { signal }).catch(() => {})]);
      stopWatching.abort();
      return isStoppedTwice(killsAmong(events), stop.timeout);
    },
  };
}

/** A signal from before the last start belongs to an earlier stop, which may be Lifeboat's own. */
function sinceOf({ at, timeout, startedAt }: OwnStop): Date {
  return new Date(Math.max(Date.parse(at) - timeout * 1000, Date.parse(startedAt)));
}

/**
 * Returns whether signals come from more than one stop: the engine sent the stop signal twice, or killed the container
 * before its time was up.
 *
 * @param timeout seconds until a stop kills the container
 */
function isStoppedTwice([first, ...more]: readonly Kill[], timeout: number): boolean {
  if (!first) return false;
  return more.some(({ signal, at }) => {
    if (signal !== KILL || first.signal === KILL) return signal === first.signal;
    return at - first.at < timeout - 1;
  });
}

/** One command stops several containers within this time, seconds. */
const TOGETHER_S = 10;

/**
 * Returns when somebody stopped the agent together with another container of its Compose project, or undefined. `held`:
 * the containers that the agent itself stopped, which do not count. `since`: a time before the first of these stops. If
 * Compose has recreated the agent, `docker compose up` is at work and starts the stopped containers, so the result is
 * undefined.
 */
export async function findProjectStop(
  engine: Pick<Engine, 'events'>,
  agent: { id: string; project: string; service: string },
  held: ReadonlySet<string>,
  since: Date,
): Promise<Date | undefined> {
  if (agent.project === '') return undefined;
  const labels = [`com.docker.compose.project=${agent.project}`];
  const events = await eventsSince(engine, since, { labels, actions: ['kill', 'create'] });
  const isAnew = ({ action, attributes }: EngineEvent) =>
    action === 'create' && attributes['com.docker.compose.service'] === agent.service;
  if (events.some(isAnew)) return undefined;
  const kills = killsAmong(events);
  const own = kills.findLast(({ id }) => id === agent.id);
  if (!own) return undefined;
  const isTogether = kills.some(({ id, at }) => id !== agent.id && !held.has(id) && Math.abs(at - own.at) < TOGETHER_S);
  return isTogether ? new Date(own.at * 1000) : undefined;
}

/** `docker compose restart` and `up` start the others within this time after the agent, milliseconds. */
const FOLLOWS_MS = 15_000;

/** The states of a container that nobody has stopped. */
const RUNS = new Set(['running', 'paused', 'restarting']);

/**
 * The state of a project after somebody stopped its agent together with another container, see {@link findProjectStop}.
 *
 * - `up`: the agent runs again, and another container runs again or was never stopped: nobody stopped the project.
 * - `unknown`: the agent does not run again, or has run only for some seconds. Until then, `docker compose stop` looks
 *   the same as `docker compose restart` of some services.
 * - `stopped`: the agent runs again, and nothing else does.
 */
type ProjectState = 'up' | 'unknown' | 'stopped';

/** Returns the state of the agent's project. @throws ENGINE_* */
export async function projectState(
  engine: Pick<Engine, 'inspectContainer' | 'listContainers'>,
  agent: { id: string; project: string; service: string },
  held: ReadonlySet<string>,
  stopped: Date,
): Promise<ProjectState> {
  const back = Date.parse((await engine.inspectContainer(agent.id)).startedAt);
  if (back < stopped.getTime()) return 'unknown';
  const containers = await engine.listContainers({ labels: [`com.docker.compose.project=${agent.project}`] });
  const runs = containers.some(
    ({ id, state, labels }) =>
      !held.has(id) && RUNS.has(state) && labels['com.docker.compose.service'] !== agent.service,
  );
  if (runs) return 'up';
  return Date.now() - back < FOLLOWS_MS ? 'unknown' : 'stopped';
}
