import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo } from '../base/errors.ts';
import type { ContainerDetails } from '../docker/answers.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import type { ContainerRef } from '../run/journal.ts';

/** A restore waits this long for services that it started, milliseconds. */
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

export const PATIENCE: Patience = {
  healthyMs: 180_000,
  steadyMs: 2000,
  endedMs: 3000,
  answerMs: 60_000,
  answerPollMs: 1000,
};
const POLL_MS = 250;

/** The state of one container after its restart. */
export interface ServiceCheck {
  name: string;
  ok: boolean;
  detail?: string;
}

/**
 * Waits until a container is healthy, or has run for a while if it has no health check. Gives up if it has stopped and
 * the engine does not restart it: a container that the engine is about to restart has the state `restarting`.
 */
export async function becomesHealthy(
  engine: Engine,
  { id, name }: ContainerRef,
  signal: AbortSignal,
  { healthyMs, steadyMs, endedMs }: Patience,
): Promise<ServiceCheck> {
  const end = performance.now() + healthyMs;
  let endedAt: number | undefined;
  for (;;) {
    let detail: string;
    try {
      const state = await engine.inspectContainer(id, { signal });
      // The engine reports a container in a restart loop as running while it waits for the next start.
      const runs = state.running && state.state !== 'restarting';
      if (runs && state.health === 'healthy') return { name, ok: true, detail: 'healthy' };
      if (runs && state.health === undefined && Date.now() - Date.parse(state.startedAt) > steadyMs)
        return { name, ok: true, detail: 'running' };
      // A user may be restarting it.
      endedAt = isEnded(state) ? (endedAt ?? performance.now()) : undefined;
      if (endedAt !== undefined && performance.now() - endedAt >= endedMs) {
        if (isDone(state)) return { name, ok: true, detail: 'ended with status 0' };
        return { name, ok: false, detail: `it ended with status ${state.exitCode}` };
      }
      detail = state.health ?? state.state;
    } catch (error) {
      if (isNotFound(error)) return { name, ok: false, detail: 'it has been removed' };
      // The data is in place, so an engine that does not answer for a moment must not fail the restore.
      signal.throwIfAborted();
      detail = errorInfo(error).message;
    }
    if (performance.now() > end) return { name, ok: false, detail };
    await pause(POLL_MS, signal);
  }
}

function isEnded({ state, running }: ContainerDetails): boolean {
  return !running && (state === 'exited' || state === 'dead');
}

/** A service that ends by design, such as a migration: it succeeded, and its restart policy does not start it again. */
function isDone({ exitCode, restartPolicy, health }: ContainerDetails): boolean {
  return exitCode === 0 && health === undefined && ['no', 'on-failure', ''].includes(restartPolicy);
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
