import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, hasCode, LifeboatError } from '../../../base/errors.ts';
import type { ContainerDetails } from '../../../docker/answers.ts';
import type { Engine } from '../../../docker/engine.ts';
import { killsSince, STOP_TIMEOUT_S } from '../../../docker/stops.ts';
import { sqlState } from './sql-state.ts';

/** A container that a run reads from, as found when the run began. */
export interface Watched {
  engine: Pick<Engine, 'inspectContainer' | 'ping' | 'events'>;
  id: string;
  name: string;
  /** start time that the engine reports */
  startedAt: string;
  /** when the run began to read from it */
  since: Date;
  /** aborts when the run has to end; then nothing waits any longer */
  signal: AbortSignal;
}

/** Creates the error PG_RESTARTED. */
export function restarted(container: string, cause?: unknown): LifeboatError {
  return new LifeboatError('PG_RESTARTED', `database container ${container} was restarted or replaced during the run`, {
    cause,
    hint: 'The next run finds it again. If the restart was on purpose, nothing needs to be done.',
  });
}

/** The engine may report a container as running for this time after a lost connection, milliseconds. */
const ENGINE_LAG_MS = 3000;
/**
 * The end of a container may take this long after its stop timeout, milliseconds. A server that is stopping first ends
 * its connections, then writes its last checkpoint. The engine kills it after the timeout.
 */
const KILL_LAG_MS = 15_000;
const LOST =
  /connection (unexpectedly|to server)|terminat(ed|ing)|shutting down|starting up|connection (refused|reset)/i;

/**
 * Inspects the container again. Returns PG_RESTARTED in place of an error that occurred while the container ended, the
 * error of a crash loop, or else the error itself.
 */
export async function explainRestart(error: unknown, container: Watched): Promise<unknown> {
  const { code, message, cause } = errorInfo(error);
  if (['INTERRUPTED', 'PG_RESTARTED', 'PG_STALLED', 'SPOOL_FULL'].includes(code)) return error;
  const looping = await explainCrashLoop(error, container);
  if (isExplained(looping)) return looping;
  const lost = code === 'PG_UNREACHABLE' || LOST.test(`${message} ${cause}`);
  const until = lost ? await endsBy(container) : 0;
  do {
    const went = await wentAway(container);
    if (went !== undefined) return went ? restarted(container.name, error) : error;
    await sleep(Math.min(200, Math.max(0, until - performance.now())));
  } while (performance.now() < until && !container.signal.aborted);
  return error;
}

/**
 * Returns how long to wait for the end of a container that lost its connections, as a time of `performance.now()`,
 * which clock changes do not affect. The time is longer if the container is being stopped.
 */
async function endsBy({ engine, id, startedAt, since }: Watched): Promise<number> {
  const soon = performance.now() + ENGINE_LAG_MS;
  const kills = await killsSince(engine, since, { containers: [id] });
  if (kills.length === 0) return soon;
  const details = await engine.inspectContainer(id).catch(() => undefined);
  if (!details?.running || details.startedAt !== startedAt) return soon;
  return performance.now() + (details.stopTimeout ?? STOP_TIMEOUT_S) * 1000 + KILL_LAG_MS;
}

/**
 * Returns whether the container has ended since; undefined while it seems to run, false when the engine does not
 * respond.
 */
async function wentAway({ engine, id, startedAt }: Watched): Promise<boolean | undefined> {
  try {
    const now = await engine.inspectContainer(id);
    return now.running && now.startedAt === startedAt ? undefined : true;
  } catch {
    return engine.ping().then(
      () => true,
      () => false,
    );
  }
}

/**
 * Refuses a paused container at once. Its server accepts connections and never responds, so every other step would wait
 * until its time limit.
 *
 * @throws PG_UNREACHABLE
 */
export async function refusePaused(engine: Pick<Engine, 'inspectContainer'>, id: string): Promise<void> {
  const details = await engine.inspectContainer(id).catch(() => undefined);
  if (!details?.paused) return;
  const paused = new LifeboatError(
    'PG_UNREACHABLE',
    `database container ${details.name} is paused, so its server does not answer`,
    {
      hint: `Run \`docker unpause ${details.name}\`, then try again.`,
    },
  );
  explained.add(paused);
  throw paused;
}

/** A container that the engine has restarted at least this often may restart again and again. */
const RESTARTS = 2;
/** A container that runs for longer than this has started successfully, milliseconds. */
const SHORT_MS = 60_000;

/**
 * Returns whether the engine restarts a container repeatedly: the container waits for its next start after a short run,
 * or has just been started again. `restarts` alone proves nothing, because it counts since a user last started the
 * container.
 */
export function isLooping(details: ContainerDetails, now = Date.now()): boolean {
  const { restarts, running, state, startedAt, finishedAt } = details;
  // The engine also calls a container `running` that waits for its next start.
  if (!running || !(restarts >= RESTARTS)) return false;
  const isUp = state !== 'restarting';
  return (isUp ? now : Date.parse(finishedAt)) - Date.parse(startedAt) < SHORT_MS;
}

/** Errors that {@link explainCrashLoop} and {@link refusePaused} created. */
const explained = new WeakSet<object>();

/**
 * Returns true for an error that says that a container restarts repeatedly or is paused. Such a server is not starting.
 */
export function isExplained(error: unknown): boolean {
  return error instanceof LifeboatError && explained.has(error);
}

/**
 * Returns PG_UNREACHABLE in place of an error whose container restarts repeatedly, else the error itself. The new error
 * names the number of restarts and the last exit status, and has the error as its cause.
 *
 * @param container `startedAt`: an earlier start. A container that has run for long since that start is in no loop
 */
export async function explainCrashLoop(
  error: unknown,
  { engine, id, startedAt }: Pick<Watched, 'id'> & { engine: Pick<Engine, 'inspectContainer'>; startedAt?: string },
): Promise<unknown> {
  const state = sqlState(error);
  // Class 57: the server is starting, stopping or crashing. Any other state comes from a running server.
  if (isExplained(error) || (state !== undefined && !state.startsWith('57'))) return error;
  if (hasCode(error, 'INTERRUPTED', 'PG_AUTH', 'PG_WRONG_SERVER', 'PG_STALLED', 'SPOOL_FULL')) return error;
  const details = await engine.inspectContainer(id).catch(() => undefined);
  if (!details || !isLooping(details)) return error;
  // The engine waits for a minute at most between two starts.
  const ranMs = startedAt === undefined ? 0 : Date.parse(details.startedAt) - Date.parse(startedAt);
  return ranMs > 2 * SHORT_MS ? error : crashLoopError(details, error);
}

function crashLoopError({ name, restarts, exitCode, oomKilled }: ContainerDetails, cause: unknown): LifeboatError {
  // The engine reports 0 while the container runs.
  const ended = oomKilled ? ', and ran out of memory' : exitCode === 0 ? '' : `, last with exit status ${exitCode}`;
  const message = `database container ${name} restarts again and again (${restarts} times so far${ended})`;
  const looping = new LifeboatError('PG_UNREACHABLE', message, {
    cause,
    hint: `\`docker logs --tail 50 ${name}\` says why its server does not stay up.`,
  });
  explained.add(looping);
  return looping;
}
