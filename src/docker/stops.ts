import type { EngineEvent } from './answers.ts';
import type { Engine, EventsOptions } from './engine.ts';

/** A signal that the engine sent to a container, because somebody asked for it. */
interface Kill {
  id: string;
  /** seconds since the epoch, by the engine's clock */
  at: number;
  signal: number;
}

/** How long a container that says nothing else may take to stop before it is killed, seconds: Docker's own default. */
export const STOP_TIMEOUT_S = 10;

/** How long the engine may take to tell what it remembers, milliseconds. */
const LIMIT_MS = 5000;

/** HUP, USR1, USR2: for a service to read its settings or open its logs again; they ask none to end. */
const HARMLESS = new Set([1, 10, 12]);

/**
 * The signals that asked containers to end, oldest first, as far as the engine remembers. A stop of a container that has
 * ended already leaves no trace in the engine (Docker 20.10: status 304 and no event). Resolves to none when the engine
 * cannot be asked: nothing follows from that.
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

/** A stop of ours: how it was asked for. */
interface OwnStop {
  id: string;
  /** ISO time, right before it was asked for */
  at: string;
  /** seconds until the engine kills the container */
  timeout: number;
  /** ISO time of the container's last start, before the stop */
  startedAt: string;
}

const KILL = 9;

/**
 * Whether somebody else asked the engine to end a container too, while our stop of it was under way: it was sent its stop
 * signal twice, or killed before its time was up.
 */
export async function isStoppedByOthers(engine: Engine, { id, at, timeout, startedAt }: OwnStop): Promise<boolean> {
  // A signal from before the last start belongs to an earlier stop, which may have been ours.
  const since = new Date(Math.max(Date.parse(at) - timeout * 1000, Date.parse(startedAt)));
  const [first, ...more] = await killsSince(engine, since, { containers: [id] });
  if (!first) return false;
  return more.some(({ signal, at }) => {
    if (signal !== KILL || first.signal === KILL) return signal === first.signal;
    return at - first.at < timeout - 1;
  });
}

/** Stops of several containers by one command follow each other within this time, seconds. */
const TOGETHER_S = 10;

/**
 * When the agent was asked to end together with another container of its Compose project, if it was. `held`: the containers
 * that the agent itself has stopped, which say nothing. `since`: before the first of these stops. An agent that Compose made
 * again has a successor already: then `docker compose up` is at work, which starts what does not run.
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

/** States of a container that nobody has stopped. */
const RUNS = new Set(['running', 'paused', 'restarting']);

/**
 * What came of a project whose agent was asked to end together with another container, see {@link findProjectStop}.
 *
 * - `up`: the agent runs again and so does another container, or has all the time: the project was not stopped.
 * - `unknown`: the agent does not run again, or only for some seconds. `docker compose stop` and `docker compose restart` of
 *   some services look the same until then.
 * - `stopped`: the agent runs again and nothing else does.
 */
type ProjectState = 'up' | 'unknown' | 'stopped';

/** Errors: ENGINE_*. */
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
