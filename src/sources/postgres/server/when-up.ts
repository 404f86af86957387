import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, hasCode, type LifeboatError } from '../../../base/errors.ts';
import type { Log } from '../../../base/log.ts';
import type { Engine } from '../../../docker/engine.ts';
import { isPermanent } from './address.ts';
import { sqlState } from './sql-state.ts';

/** A server that may be starting. */
interface StartingServer {
  engine: Pick<Engine, 'inspectContainer'>;
  /** id of its container */
  id: string;
  name: string;
  log: Log;
  signal: AbortSignal;
  /** called once for each reason to wait */
  onWait(phase: string): void;
  /** milliseconds; default {@link PATIENCE} */
  patience?: WhenUpPatience;
}

/** How long to wait for a server, milliseconds. */
export interface WhenUpPatience {
  /** from the first attempt, while the server reports that it is starting; it may replay its write-ahead log */
  startingMs: number;
  /** from the start of its container, while the server does not listen or the engine restarts it */
  youngMs: number;
}

const PATIENCE: WhenUpPatience = { startingMs: 5 * 60_000, youngMs: 3 * 60_000 };

/** With this many restarts, a container crashes at each start: the delays between them add up to minutes. */
const LOOPING = 8;
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 5000;

type Reason = 'starting' | 'refused' | 'restarting';

const PHASES: Record<Reason, string> = {
  starting: 'waiting for the database: it is starting up',
  refused: 'waiting for the database: it does not listen yet',
  restarting: 'waiting for the database: its container restarts',
};

/**
 * Calls `open` until it succeeds, while the server is starting: it reports that (SQLSTATE 57P03, cannot_connect_now),
 * it refuses connections soon after the start of its container, or the engine is restarting its container. Does not
 * wait for a server that has refused connections for long, or that crashes at each start. Throws errors of `open`, and
 * the reason of the signal.
 */
export async function whenUp<T>(server: StartingServer, open: () => Promise<T>): Promise<T> {
  const { signal, log, name, onWait, patience = PATIENCE } = server;
  const from = performance.now();
  const reported = new Set<Reason>();
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 1.5, MAX_PAUSE_MS)) {
    try {
      return await open();
    } catch (error) {
      const reason = signal.aborted ? undefined : await reasonToWait(server, error, performance.now() - from, patience);
      if (reason === undefined) throw error;
      if (!reported.has(reason)) {
        log.info(PHASES[reason], { container: name });
        onWait(PHASES[reason]);
      }
      reported.add(reason);
    }
    await sleep(pause, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

async function reasonToWait(
  { engine, id }: StartingServer,
  error: unknown,
  waitedMs: number,
  { startingMs, youngMs }: WhenUpPatience,
): Promise<Reason | undefined> {
  if (sqlState(error) === '57P03') return waitedMs < startingMs ? 'starting' : undefined;
  if (!hasCode(error, 'PG_UNREACHABLE', 'HELPER_FAILED', 'ENGINE_REFUSED')) return;
  const container = await engine.inspectContainer(id).catch(() => undefined);
  if (!container?.running || container.paused || waitedMs >= youngMs) return undefined;
  // The engine reports `running` while the container waits for its next start.
  if (container.state === 'restarting') return container.restarts < LOOPING ? 'restarting' : undefined;
  const ageMs = Date.now() - Date.parse(container.startedAt);
  const isYoung = ageMs < youngMs && container.restarts < LOOPING;
  return isYoung && isRefused(error) ? 'refused' : undefined;
}

/** Returns true if no server listens, or if a connection breaks before it is open. */
function isRefused(error: LifeboatError): boolean {
  const { message, cause } = errorInfo(error);
  if (isPermanent(error)) return false;
  return error.code === 'PG_UNREACHABLE' || /not running|restarting|No such file/i.test(`${message} ${cause}`);
}
