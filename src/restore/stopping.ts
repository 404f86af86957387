import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerDetails } from '../docker/answers.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import { isHalfRestored } from '../kept/volumes.ts';
import { withHold } from '../run/hold.ts';
import type { ContainerRef } from '../run/journal.ts';
import type { HoldDeps } from '../run/release.ts';
import type { Services } from './services.ts';

/** How long a restore waits for services that it started, milliseconds. */
export interface Patience {
  /** until they are healthy */
  healthyMs: number;
  /** a service without a health check counts as healthy after it has run for this long */
  steadyMs: number;
  /** a service that stays stopped for this long has failed: the engine restarts services sooner */
  endedMs: number;
  /** until a URL answers */
  answerMs: number;
  /** between two requests to a URL */
  answerPollMs: number;
}

const PATIENCE: Patience = { healthyMs: 180_000, steadyMs: 2000, endedMs: 3000, answerMs: 60_000, answerPollMs: 1000 };
const POLL_MS = 250;

/** The state of one container after its restart. */
interface ServiceCheck {
  name: string;
  ok: boolean;
  detail?: string;
}

interface WithStoppedOptions<T> {
  containers: readonly ContainerRef[];
  deps: HoldDeps;
  signal: AbortSignal;
  work: () => Promise<T>;
  patience?: typeof PATIENCE | undefined;
}

/**
 * Stops containers, runs `work`, and starts them again whether it succeeds or not. Each stop is recorded first, so
 * recovery starts the containers after a crash. Resolves when all of them are healthy or have timed out.
 *
 * @returns `stoppedMs`: from the first stop to the last start, milliseconds; absent if there was nothing to stop
 */
export async function withStopped<T>({
  containers,
  deps,
  signal,
  work,
  patience = PATIENCE,
}: WithStoppedOptions<T>): Promise<{ result: T; checks: ServiceCheck[]; stoppedMs?: number }> {
  const [container] = containers;
  if (!container) return { result: await work(), checks: [] };
  const hold = { container, stop: [...containers], leftHeld: isHalfRestored, refusePaused: true as const };
  const begin = performance.now();
  const result = await withHold(hold, deps, signal, work);
  const stoppedMs = Math.round(performance.now() - begin);
  const checks = await Promise.all(containers.map((one) => becomesWell(deps.engine, one, signal, patience)));
  return { result, checks, stoppedMs };
}

interface WithServersLastOptions extends Pick<WithStoppedOptions<void>, 'deps' | 'signal'> {
  services: Services;
  /** ids of the containers of the databases */
  servers: readonly string[];
  databases: () => Promise<void>;
  volumes: () => Promise<void>;
}

/**
 * Stops services once for databases and volumes. The database servers run while their databases are changed. A server
 * that uses a volume is stopped afterwards, while the volumes are changed.
 */
export async function withServersLast(
  options: WithServersLastOptions,
): Promise<{ checks: ServiceCheck[]; stoppedMs?: number }> {
  const { services, servers, deps, signal, databases, volumes } = options;
  const [inner, outer] = [true, false].map((isServer) =>
    services.using.filter(({ id }) => servers.includes(id) === isServer),
  ) as [ContainerRef[], ContainerRef[]];
  const work = async () => {
    await databases();
    return withStopped({ containers: inner, deps, signal, work: volumes });
  };
  const { result, checks, stoppedMs = result.stoppedMs } = await withStopped({ containers: outer, deps, signal, work });
  return { checks: [...result.checks, ...checks], ...(stoppedMs !== undefined && { stoppedMs }) };
}

/**
 * Waits until a container is healthy, or has run for a while if it has no health check. Gives up if it has stopped and
 * the engine does not restart it: a container that the engine is about to restart has the state `restarting`.
 */
async function becomesWell(
  engine: Engine,
  { id, name }: ContainerRef,
  signal: AbortSignal,
  { healthyMs, steadyMs, endedMs }: Patience,
): Promise<ServiceCheck> {
  const end = performance.now() + healthyMs;
  let endedAt: number | undefined;
  for (;;) {
    const state = await engine.inspectContainer(id, { signal }).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (!state) return { name, ok: false, detail: 'it has been removed' };
    // The engine reports a container in a restart loop as running while it waits for the next start.
    if (state.running && state.state !== 'restarting') {
      if (state.health === 'healthy') return { name, ok: true, detail: 'healthy' };
      if (state.health === undefined && Date.now() - Date.parse(state.startedAt) > steadyMs)
        return { name, ok: true, detail: 'running' };
    }
    // A user may be restarting it.
    endedAt = isEnded(state) ? (endedAt ?? performance.now()) : undefined;
    if (endedAt !== undefined && performance.now() - endedAt >= endedMs)
      return { name, ok: false, detail: `it ended with status ${state.exitCode}` };
    if (performance.now() > end) return { name, ok: false, detail: state.health ?? state.state };
    await pause(POLL_MS, signal);
  }
}

function isEnded({ state, running }: ContainerDetails): boolean {
  return !running && (state === 'exited' || state === 'dead');
}

/** Requests a URL until it answers 2xx, for at most a minute. The result omits the query, which may hold a secret. */
export async function answersWell(
  url: URL,
  signal: AbortSignal,
  { answerMs, answerPollMs }: Patience = PATIENCE,
): Promise<ServiceCheck> {
  const name = `${url.host}${url.pathname}`;
  const end = performance.now() + answerMs;
  for (;;) {
    const detail = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(10_000)]) }).then(
      async (response) => {
        await response.body?.cancel();
        return response.ok ? undefined : `status ${response.status}`;
      },
      (error: Error) => `no answer: ${whyNot(error)}`,
    );
    if (detail === undefined) return { name, ok: true, detail: 'answers' };
    signal.throwIfAborted();
    if (performance.now() > end) return { name, ok: false, detail };
    await pause(answerPollMs, signal);
  }
}

/**
 * Returns the reason of a failed fetch: `ECONNREFUSED`, or a text such as that of a blocked port (Fetch Standard, port
 * blocking).
 */
function whyNot({ name, cause }: Error): string {
  const { code, message } = (cause ?? {}) as { code?: unknown; message?: unknown };
  return String(code ?? message ?? name);
}

/** Sleeps. @throws the signal's reason if it aborts */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}
