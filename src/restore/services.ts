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

/** What Compose writes down of `depends_on`: `db:service_healthy:false,redis:service_started:false`. */
const DEPENDS_ON = 'com.docker.compose.depends_on';

/** How long is waited for services after they were started, milliseconds. */
export interface Patience {
  /** until they are well again */
  healthyMs: number;
  /** one without a health check counts as well when it has run this long */
  steadyMs: number;
  /** one that has ended, and stays so this long, is not waited for: the engine restarts what it restarts within moments */
  endedMs: number;
  /** until a URL answers */
  answerMs: number;
  /** between two questions to a URL */
  answerPollMs: number;
}

const PATIENCE: Patience = { healthyMs: 180_000, steadyMs: 2000, endedMs: 3000, answerMs: 60_000, answerPollMs: 1000 };
const POLL_MS = 250;

/**
 * The running containers that work with what is to be replaced, the agent itself left out: of a database, whatever names
 * its service in `depends_on`; of a volume, whatever has it mounted writable; and those of the project that are labelled
 * `lifeboat.stop` and have to do with it, see {@link concerns}. A paused one is not stopped, because it would come back unpaused.
 *
 * @throws TREE_TARGET_REFUSED when a paused container has the volume mounted writable; ENGINE_*
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
    // A writer may be of another project than the volume's source: it is found again by its own.
    else using.push({ id, name, project: own, service });
  }
  return { using, kept };
}

function uses(container: ContainerFacts, target: PlannedSource, project: string): boolean {
  // Also of another project: it writes to the same files.
  if (target.kind === 'volume' && mountsIt(container, target)) return true;
  if (container.project !== project || container.id === target.containerId) return false;
  const labelled = /^(true|yes|1|on)$/i.test(container.labels['lifeboat.stop'] ?? '');
  if (target.kind === 'postgres' && dependencies(container).includes(target.service)) return true;
  return labelled && concerns(container, target);
}

/**
 * Says whether a container with the label `lifeboat.stop` has to do with a source. The label is about the volumes of its service, so
 * alone it says nothing of a database: a variable or an argument that names the database's service does.
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

/** True for `db`, `db:5432`, `postgres://app@db/shop`, `host=db`; not for `dbname` or `/var/db`. */
function namesHost(text: string, host: string): boolean {
  const isPath = text.startsWith('/');
  return !isPath && text.split(/[^\w.-]+/).includes(host);
}

/** Whether a container can write to the volume of a source. */
function mountsIt({ mounts }: Pick<ContainerFacts, 'mounts'>, { mount }: VolumeSource): boolean {
  return mounts.some(
    ({ type, name, source, writable }) =>
      writable && type === mount.type && (name ?? source) === (mount.name ?? mount.source),
  );
}

/** The services that a container's `depends_on` names. */
export function dependencies({ labels }: Pick<ContainerFacts, 'labels'>): string[] {
  return (labels[DEPENDS_ON] ?? '').split(',').flatMap((entry) => entry.split(':')[0] || []);
}

/** What is known of one container after it was started again. */
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
 * Runs `work` while containers are stopped, and starts them again whatever it comes to. Each stop is recorded before it is
 * made, so that a crash leaves none stopped for long. Resolves when all of them are well or their time is up.
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
 * Waits until a container that was started is healthy, or has run for a while where it has no health check. Gives up when
 * it has ended for good: the engine calls one that it is about to restart `restarting`, whatever its restart policy.
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
    // One that ends again and again is `running` to the engine while it waits for its next start.
    if (state.running && state.state !== 'restarting') {
      if (state.health === 'healthy') return { name, ok: true, detail: 'healthy' };
      if (state.health === undefined && Date.now() - Date.parse(state.startedAt) > steadyMs)
        return { name, ok: true, detail: 'running' };
    }
    // A user may be restarting it just then.
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

/** Asks a URL until it answers 2xx, for at most a minute. Its query may hold a secret, so it is not told. */
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

/** Of what fetch rejects with: `ECONNREFUSED`, or in words that some ports are not asked (Fetch Standard, port blocking). */
function whyNot({ name, cause }: Error): string {
  const { code, message } = (cause ?? {}) as { code?: unknown; message?: unknown };
  return String(code ?? message ?? name);
}

/** Throws the signal's reason when it aborts meanwhile. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}
