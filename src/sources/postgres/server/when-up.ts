import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, hasCode, type LifeboatError } from '../../../base/errors.ts';
import type { Log } from '../../../base/log.ts';
import type { Engine } from '../../../docker/engine.ts';
import { isForGood } from './address.ts';
import { sqlState } from './sql-state.ts';

/** A server that may be starting. */
interface StartingServer {
  engine: Pick<Engine, 'inspectContainer'>;
  /** of its container */
  id: string;
  name: string;
  log: Log;
  signal: AbortSignal;
  /** hears once of each thing that is waited for */
  onWait(phase: string): void;
  /** milliseconds; default {@link PATIENCE} */
  patience?: WhenUpPatience;
}

/** How long a server is waited for, milliseconds. */
export interface WhenUpPatience {
  /** from the first attempt, while it says that it is starting: it may replay its log */
  startingMs: number;
  /** from the start of its container, while nobody listens or the engine restarts it */
  youngMs: number;
}

const PATIENCE: WhenUpPatience = { startingMs: 5 * 60_000, youngMs: 3 * 60_000 };

/** A container that the engine has restarted so often crashes at each start: the delays before come to minutes. */
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
 * Calls `open` until it reaches the server, while that is on its way up: it says so (SQLSTATE 57P03, cannot_connect_now), it
 * refuses connections soon after its container was started, or the engine is restarting its container. A server that has
 * refused for long, or crashes at each start, is not waited for. Errors: those of `open`, and what the signal aborts with.
 */
export async function whenUp<T>(server: StartingServer, open: () => Promise<T>): Promise<T> {
  const { signal, log, name, onWait, patience = PATIENCE } = server;
  const from = performance.now();
  const told = new Set<Reason>();
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 1.5, MAX_PAUSE_MS)) {
    try {
      return await open();
    } catch (error) {
      const reason = signal.aborted ? undefined : await reasonToWait(server, error, performance.now() - from, patience);
      if (reason === undefined) throw error;
      if (!told.has(reason)) {
        log.info(PHASES[reason], { container: name });
        onWait(PHASES[reason]);
      }
      told.add(reason);
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
  // `running` to the engine while it waits for its next start.
  if (container.state === 'restarting') return container.restarts < LOOPING ? 'restarting' : undefined;
  const ageMs = Date.now() - Date.parse(container.startedAt);
  const isYoung = ageMs < youngMs && container.restarts < LOOPING;
  return isYoung && isRefused(error) ? 'refused' : undefined;
}

/** True when nobody listens, or a connection is cut before it is open. */
function isRefused(error: LifeboatError): boolean {
  const { message, cause } = errorInfo(error);
  if (isForGood(error)) return false;
  return error.code === 'PG_UNREACHABLE' || /not running|restarting|No such file/i.test(`${message} ${cause}`);
}
