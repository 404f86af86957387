import { setTimeout as sleep } from 'node:timers/promises';
import type { ContainerDetails } from '../docker/answers.ts';
import { listFacts } from '../docker/discover.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import { isHalfRestored } from '../kept/volumes.ts';
import type { ContainerFacts, PlannedSource, VolumeSource } from '../plan/model.ts';
import { pausedError, withHold } from '../run/hold.ts';
import type { ContainerRef } from '../run/journal.ts';
import type { HoldDeps } from '../run/release.ts';

/** The label in which Compose records `depends_on`: `db:service_healthy:false,redis:service_started:false`. */
const DEPENDS_ON = 'com.docker.compose.depends_on';

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

/**
 * Finds the running containers that use data, without the agent itself. They use a database if they name its service in `depends_on`,
 * and a volume if they mount it writable. Containers of the project with the label `lifeboat.stop` are included if they have to do
 * with the data, see {@link concerns}. A paused container is not stopped, because it would start unpaused.
 *
 * @returns `using`: containers to stop; `kept`: those that must not be stopped, with the reason
 * @throws TREE_TARGET_REFUSED if a paused container has the volume mounted writable; ENGINE_*
 */
export async function containersUsing(
  engine: Engine,
  target: PlannedSource,
  agentId: string,
): Promise<{ using: ContainerRef[]; kept: { name: string; reason: string }[] }> {
  const all = await listFacts(engine);
  const project = all.find(({ id }) => id === target.containerId)?.project ?? '';
  const found = all.filter(
    (container) => container.running && container.id !== agentId && project !== '' && uses(container, target, project),
  );
  const using: ContainerRef[] = [];
  const kept: { name: string; reason: string }[] = [];
  for (const { id, name, service, project: own } of found) {
    const details = await engine.inspectContainer(id).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (!details?.running) continue;
    if (details.paused) {
      if (target.kind === 'volume' && mountsIt(details, target)) throw pausedError(name);
      kept.push({ name, reason: 'it is paused, and stays paused' });
    } else if (details.autoRemove) kept.push({ name, reason: 'it would be removed when it is stopped' });
    // A container that writes to the volume may belong to another project, by which recovery finds it.
    else using.push({ id, name, project: own, service });
  }
  return { using, kept };
}

function uses(container: ContainerFacts, target: PlannedSource, project: string): boolean {
  // Also containers of other projects, which write to the same files.
  if (target.kind === 'volume' && mountsIt(container, target)) return true;
  if (container.project !== project || container.id === target.containerId) return false;
  const labelled = /^(true|yes|1|on)$/i.test(container.labels['lifeboat.stop'] ?? '');
  if (target.kind === 'postgres' && dependencies(container).includes(target.service)) return true;
  return labelled && concerns(container, target);
}

/**
 * Returns whether a container with the label `lifeboat.stop` has to do with a source. The label is about the volumes of its service.
 * A database counts only if a variable or an argument of the container names the database's service.
 */
export function concerns(
  { mounts, env, command = [] }: Pick<ContainerFacts, 'mounts' | 'env' | 'command'>,
  target: PlannedSource,
): boolean {
  if (target.kind === 'volume') {
    const { mount } = target;
    return mounts.some(
      ({ type, name, source }) => type === mount.type && (name ?? source) === (mount.name ?? mount.source),
    );
  }
  const hosts = [target.service, target.containerName].filter((host) => host !== '');
  return [...Object.values(env), ...command].some((text) => hosts.some((host) => namesHost(text, host)));
}

/** Returns true for `db`, `db:5432`, `postgres://app@db/shop`, `host=db`; not for `dbname` or `/var/db`. */
function namesHost(text: string, host: string): boolean {
  const isPath = text.startsWith('/');
  return !isPath && text.split(/[^\w.-]+/).includes(host);
}

/** Returns whether a container can write to the volume of a source. */
function mountsIt({ mounts }: Pick<ContainerFacts, 'mounts'>, { mount }: VolumeSource): boolean {
  return mounts.some(
    ({ type, name, source, writable }) =>
      writable && type === mount.type && (name ?? source) === (mount.name ?? mount.source),
  );
}

/** Returns the services that the `depends_on` of a container names. */
export function dependencies({ labels }: Pick<ContainerFacts, 'labels'>): string[] {
  return (labels[DEPENDS_ON] ?? '').split(',').flatMap((entry) => entry.split(':')[0] || []);
}

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
 * Stops containers, runs `work`, and starts them again whether it succeeds or not. Each stop is recorded first, so recovery starts
 * the containers after a crash. Resolves when all of them are healthy or have timed out.
 */
export async function withStopped<T>({
  containers,
  deps,
  signal,
  work,
  patience = PATIENCE,
}: WithStoppedOptions<T>): Promise<{ result: T; checks: ServiceCheck[] }> {
  const [container] = containers;
  if (!container) return { result: await work(), checks: [] };
  const hold = { container, stop: [...containers], leftHeld: isHalfRestored, refusePaused: true as const };
  const result = await withHold(hold, deps, signal, work);
  const checks = await Promise.all(containers.map((one) => becomesWell(deps.engine, one, signal, patience)));
  return { result, checks };
}

/**
 * Waits until a container is healthy, or has run for a while if it has no health check. Gives up if it has stopped and the engine does
 * not restart it: a container that the engine is about to restart has the state `restarting`.
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

/** Requests a URL until it answers 2xx, for at most a minute. The result leaves out the query, which may hold a secret. */
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

/** Returns the reason of a failed fetch: `ECONNREFUSED`, or a text such as that of a blocked port (Fetch Standard, port blocking). */
function whyNot({ name, cause }: Error): string {
  const { code, message } = (cause ?? {}) as { code?: unknown; message?: unknown };
  return String(code ?? message ?? name);
}

/** Sleeps. @throws the signal's reason if it aborts */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}
