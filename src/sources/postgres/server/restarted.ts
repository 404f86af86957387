import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, LifeboatError } from '../../../base/errors.ts';
import type { Engine } from '../../../docker/engine.ts';
import { killsSince, STOP_TIMEOUT_S } from '../../../docker/stops.ts';

/** A container that a run reads from, as it was found when the run began. */
export interface Watched {
  engine: Pick<Engine, 'inspectContainer' | 'ping' | 'events'>;
  id: string;
  name: string;
  /** as the engine tells it */
  startedAt: string;
  /** when the run began to read from it */
  since: Date;
  /** aborts when the run is to end: then nothing more is waited for */
  signal: AbortSignal;
}

/** PG_RESTARTED. */
export function restarted(container: string, cause?: unknown): LifeboatError {
  return new LifeboatError('PG_RESTARTED', `database container ${container} was restarted or replaced during the run`, {
    cause,
    hint: 'The next run will find it again; nothing needs to be done if the restart was on purpose.',
  });
}

/** The engine may hear of a container's end a moment after its connections are gone. */
const ENGINE_LAG_MS = 3000;
/**
 * A server that was asked to stop ends its connections first, and writes its last checkpoint then; the engine kills it when
 * the time that it is given is up. How long its end may take after that, milliseconds.
 */
const KILL_LAG_MS = 15_000;
const LOST =
  /connection (unexpectedly|to server)|terminat(ed|ing)|shutting down|starting up|connection (refused|reset)/i;

/** Looks at the container again: a failure while it went away is told as that, whatever it looked like from inside. */
export async function explainAway(error: unknown, container: Watched): Promise<unknown> {
  const { code, message, cause } = errorInfo(error);
  if (['INTERRUPTED', 'PG_RESTARTED', 'PG_STALLED', 'SPOOL_FULL'].includes(code)) return error;
  const lost = code === 'PG_UNREACHABLE' || LOST.test(`${message} ${cause}`);
  const until = lost ? await endsBy(container) : 0;
  do {
    const went = await wentAway(container);
    if (went !== undefined) return went ? restarted(container.name, error) : error;
    await sleep(Math.min(200, Math.max(0, until - Date.now())));
  } while (Date.now() < until && !container.signal.aborted);
  return error;
}

/** When a container whose connections are gone has ended, if it is ending (milliseconds since the epoch). */
async function endsBy({ engine, id, startedAt, since }: Watched): Promise<number> {
  const soon = Date.now() + ENGINE_LAG_MS;
  const kills = await killsSince(engine, since, { containers: [id] });
  if (kills.length === 0) return soon;
  const details = await engine.inspectContainer(id).catch(() => undefined);
  if (!details?.running || details.startedAt !== startedAt) return soon;
  return Date.now() + (details.stopTimeout ?? STOP_TIMEOUT_S) * 1000 + KILL_LAG_MS;
}

/** Whether the container ended since; undefined while it seems to run, false when the engine does not answer. */
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
