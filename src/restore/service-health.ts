import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo } from '../base/errors.ts';
import type { ContainerDetails } from '../docker/answers.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import { execText } from '../docker/exec.ts';
import type { Hook, PlannedSource } from '../plan/model.ts';
import type { RestoreReport } from '../report/events.ts';
import { current } from '../run/current.ts';
import type { ContainerRef } from '../run/journal.ts';
import { concernsHook, hasNeverStarted, type Planned } from '../run/restored-hooks.ts';

/** A restore waits this long for services that it started, milliseconds. */
export interface Patience {
  /** until they are healthy */
  healthyMs: number;
  /** a service without a health check counts as healthy after it has run for this long */
  steadyMs: number;
  /** a service that stays stopped for this long has failed: the engine restarts services sooner */
  endedMs: number;
  /** until a URL answers, or a command succeeds */
  answerMs: number;
  /** between two requests to a URL, or two runs of a command */
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

/** The questions after a restore or rollback. */
interface Questions {
  /** the sources whose data was replaced; empty if no service uses the restored data */
  replaced: readonly PlannedSource[];
  /** of `--health-url` */
  healthUrl?: URL | undefined;
  /** receives a line for each question that is skipped */
  warnings: string[];
}

/** Asks as {@link askHealth} does, and adds the answers and the time that they took to a report. */
export async function reportHealth(
  deps: Parameters<typeof askHealth>[0],
  questions: Omit<Questions, 'warnings'>,
  signal: AbortSignal,
  report: Pick<RestoreReport, 'checks' | 'steps' | 'warnings'>,
): Promise<void> {
  const begin = performance.now();
  const checks = await askHealth(deps, { ...questions, warnings: report.warnings }, signal);
  if (checks.length === 0) return;
  report.checks.push(...checks);
  report.steps.push({ name: 'ask', durationMs: Math.round(performance.now() - begin) });
}

/**
 * Asks whether the application works: requests `--health-url`, and asks each service with `lifeboat.health` that has or
 * uses replaced data. A wrong answer is a failed check, because the restored data stays in place. So is a list of
 * services that cannot be read.
 *
 * In a copy of a project, a label's URL is skipped: its host name may lead to the live service. So is a service that
 * has never started.
 *
 * @throws the reason of `signal`
 */
export async function askHealth(
  { engine, plan, isCopy = false }: { engine: Engine; plan(): Promise<Planned>; isCopy?: boolean },
  { replaced, healthUrl, warnings }: Questions,
  signal: AbortSignal,
  patience: Patience = PATIENCE,
): Promise<ServiceCheck[]> {
  const checks = healthUrl ? [await answersWell(healthUrl, signal, patience)] : [];
  if (replaced.length === 0) return checks;
  let planned: Planned;
  try {
    planned = await plan();
  } catch (error) {
    signal.throwIfAborted();
    return [...checks, { name: 'lifeboat.health', ok: false, detail: errorInfo(error).message }];
  }
  const asked = new Set<string>();
  for (const service of [...planned.sources, ...(planned.hooks ?? [])]) {
    const { health, containerId: id, containerName: name } = service;
    const key = JSON.stringify([id, health]);
    if (!health || asked.has(key) || !replaced.some((one) => concernsHook(service, one))) continue;
    asked.add(key);
    const why = isCopy ? await whySkipped(engine, id, health, signal) : undefined;
    if (why !== undefined) {
      warnings.push(`lifeboat.health of ${name} was not asked, because ${why}`);
      continue;
    }
    const answer = await answerOf(engine, { id, name, project: service.project, service: service.service }, health, {
      signal,
      patience,
    });
    checks.push({ ...answer, name: `lifeboat.health of ${name}` });
  }
  return checks;
}

/** Returns why a service of a copy is not asked, for a message; undefined if it is. */
async function whySkipped(
  engine: Engine,
  id: string,
  health: NonNullable<PlannedSource['health']>,
  signal: AbortSignal,
): Promise<string | undefined> {
  if ('url' in health) return 'in a copy, its URL may lead to the live service';
  return (await hasNeverStarted(engine, id, signal)) ? 'the service has never started' : undefined;
}

function answerOf(
  engine: Engine,
  service: ContainerRef,
  health: NonNullable<PlannedSource['health']>,
  { signal, patience }: { signal: AbortSignal; patience: Patience },
): Promise<ServiceCheck> {
  if ('url' in health) return answersWell(new URL(health.url), signal, patience);
  return succeeds(engine, service, health, { signal, patience });
}

/** Requests a URL until it answers 2xx, for at most a minute. The result omits the query, which may hold a secret. */
export function answersWell(url: URL, signal: AbortSignal, patience: Patience = PATIENCE): Promise<ServiceCheck> {
  const request = (limit: AbortSignal) =>
    fetch(url, { signal: limit }).then(
      async (response) => {
        await response.body?.cancel();
        return response.ok ? undefined : `status ${response.status}`;
      },
      (error: Error) => `no answer: ${whyNot(error)}`,
    );
  return untilGood({ name: `${url.host}${url.pathname}`, good: 'answers', ask: request }, signal, patience);
}

/** Runs a command in a container, as it is now, until it ends with status 0, for at most a minute. */
function succeeds(
  engine: Engine,
  service: ContainerRef,
  hook: Hook,
  { signal, patience }: { signal: AbortSignal; patience: Patience },
): Promise<ServiceCheck> {
  const run = async (limit: AbortSignal) => {
    try {
      const now = await current(engine, service);
      if (!now) return 'it is gone';
      if (!now.details.running) return 'it is not running';
      await execText(engine, now.container.id, { ...hook, signal: limit });
      return undefined;
    } catch (error) {
      return limit.aborted ? 'the command has no result yet' : errorInfo(error).message;
    }
  };
  return untilGood({ name: service.name, good: 'the command succeeded', ask: run }, signal, patience);
}

/** The most time for one answer, milliseconds. */
const ONE_ANSWER_MS = 10_000;

/** One question. `ask` resolves to what is wrong with the answer, or to undefined. */
interface Question {
  name: string;
  /** the detail of a good answer */
  good: string;
  ask(limit: AbortSignal): Promise<string | undefined>;
}

/** Asks until the answer is good or the time is up. @throws the reason of `signal` */
async function untilGood(
  { name, good, ask }: Question,
  signal: AbortSignal,
  { answerMs, answerPollMs }: Patience,
): Promise<ServiceCheck> {
  const end = performance.now() + answerMs;
  for (;;) {
    const wrong = await ask(AbortSignal.any([signal, AbortSignal.timeout(ONE_ANSWER_MS)]));
    if (wrong === undefined) return { name, ok: true, detail: good };
    signal.throwIfAborted();
    if (performance.now() > end) return { name, ok: false, detail: wrong };
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
