import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, hasCode, type LifeboatError } from '../../../base/errors.ts';
import type { Log } from '../../../base/log.ts';
import type { Engine } from '../../../docker/engine.ts';
import { isPermanent } from './address.ts';
import { isExplained } from './restarted.ts';
import { serverWords, sqlState } from './sql-state.ts';
import type { Tools } from './tools.ts';

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

/** The longest wait for a server, milliseconds. */
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

type Reason = 'starting' | 'silent' | 'restarting' | 'refused';

const PHASES: Record<Exclude<Reason, 'refused'>, string> = {
  starting: 'waiting for the database: it is starting up',
  silent: 'waiting for the database: it does not listen yet',
  restarting: 'waiting for the database: its container restarts',
};

/**
 * Calls `open` until it succeeds, while the server is starting: it reports that (SQLSTATE 57P03, cannot_connect_now),
 * it does not listen or accepts no connection soon after the start of its container, or the engine is restarting its
 * container. Does not wait for a server that has refused connections for long, or that crashes at each start. Throws
 * errors of `open`, and the reason of the signal.
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
        const phase = phaseOf(reason, error);
        log.info(phase, { container: name });
        onWait(phase);
      }
      reported.add(reason);
    }
    await sleep(pause, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/**
 * Opens the tools and their first session. A server that died without a warning leaves its address behind, so only a
 * session proves that it listens. Closes the tools if `ask`, which opens that session, fails.
 */
export async function openAnswering(
  open: () => Promise<Tools>,
  ask: (tools: Tools) => Promise<unknown> = (tools) => tools.control(),
): Promise<Tools> {
  const tools = await open();
  try {
    await ask(tools);
    return tools;
  } catch (error) {
    await tools.close();
    throw error;
  }
}

function phaseOf(reason: Reason, error: unknown): string {
  if (reason !== 'refused') return PHASES[reason];
  return `waiting for the database: it refuses connections: ${serverWords(error)}`;
}

/**
 * Returns whether an error can come from a server that is still starting. A server that refuses a connection for a
 * reason of its own, such as too many connections (SQLSTATE 53300), has started. Class 57: it is starting, stopping or
 * crashing.
 */
export function mayBeStarting(error: unknown): boolean {
  if (!hasCode(error, 'PG_UNREACHABLE') || isPermanent(error) || isExplained(error)) return false;
  return sqlState(error)?.startsWith('57') ?? true;
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
  if (!isYoung || !isUnavailable(error)) return undefined;
  return sqlState(error) === undefined ? 'silent' : 'refused';
}

/** Returns true if no server listens, if it accepts no connection, or if a connection breaks before it is open. */
function isUnavailable(error: LifeboatError): boolean {
  const { message, cause } = errorInfo(error);
  if (isPermanent(error)) return false;
  return hasCode(error, 'PG_UNREACHABLE') || /not running|restarting|No such file/i.test(`${message} ${cause}`);
}
