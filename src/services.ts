import { setTimeout as sleep } from 'node:timers/promises';
import { listFacts } from './docker/discover.ts';
import type { Engine } from './docker/engine.ts';
import { isNotFound } from './docker/engine-errors.ts';
import type { HoldDeps } from './hold.ts';
import type { ContainerRef } from './journal.ts';
import type { ContainerFacts, PlannedSource } from './plan/model.ts';
import { withHold } from './with-hold.ts';

/** What Compose writes down of `depends_on`: `db:service_healthy:false,redis:service_started:false`. */
const DEPENDS_ON = 'com.docker.compose.depends_on';

/** How long services may take until they are well again, milliseconds. */
const HEALTHY_LIMIT_MS = 180_000;
/** One without a health check counts as well when it has run this long, milliseconds. */
const STEADY_MS = 2000;
const POLL_MS = 250;

/**
 * The running containers that work with what is to be replaced, the agent itself left out: of a database, whatever names
 * its service in `depends_on`; of a volume, whatever has it mounted writable; and in both cases those of the project that
 * are labelled `lifeboat.stop`.
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
    if (details.autoRemove) kept.push({ name, reason: 'it would be removed when it is stopped' });
    // A writer may be of another project than the volume's source: it is found again by its own.
    else using.push({ id, name, project: own, service });
  }
  return { using, kept };
}

function uses(container: ContainerFacts, target: PlannedSource, project: string): boolean {
  if (target.kind === 'volume') {
    // Also of another project: it writes to the same files.
    const same = container.mounts.some(
      ({ type, name, source, writable }) =>
        writable && type === target.mount.type && (name ?? source) === (target.mount.name ?? target.mount.source),
    );
    if (same) return true;
  }
  if (container.project !== project || container.id === target.containerId) return false;
  const labelled = /^(true|yes|1|on)$/i.test(container.labels['lifeboat.stop'] ?? '');
  return labelled || (target.kind === 'postgres' && dependencies(container).includes(target.service));
}

/** The services that a container's `depends_on` names. */
export function dependencies({ labels }: Pick<ContainerFacts, 'labels'>): string[] {
  return (labels[DEPENDS_ON] ?? '').split(',').flatMap((entry) => entry.split(':')[0] || []);
}

/** What is known of one container after it was started again. */
export interface ServiceCheck {
  name: string;
  ok: boolean;
  detail?: string;
}

/**
 * Runs `work` while containers are stopped, and starts them again whatever it comes to. Each stop is recorded before it is
 * made, so that a crash leaves none stopped for long. Resolves when all of them are well or their time is up.
 */
export async function withStopped<T>(
  containers: readonly ContainerRef[],
  deps: HoldDeps,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<{ result: T; checks: ServiceCheck[] }> {
  const [container] = containers;
  if (!container) return { result: await work(), checks: [] };
  const result = await withHold({ container, stop: [...containers] }, deps, signal, work);
  const checks = await Promise.all(containers.map((one) => becomesWell(deps.engine, one, signal)));
  return { result, checks };
}

/** Waits until a container that was started is healthy, or has run for a while where it has no health check. */
async function becomesWell(engine: Engine, { id, name }: ContainerRef, signal: AbortSignal): Promise<ServiceCheck> {
  const end = performance.now() + HEALTHY_LIMIT_MS;
  for (;;) {
    const state = await engine.inspectContainer(id, { signal }).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (!state) return { name, ok: false, detail: 'it has been removed' };
    if (state.running) {
      if (state.health === 'healthy') return { name, ok: true, detail: 'healthy' };
      if (state.health === undefined && Date.now() - Date.parse(state.startedAt) > STEADY_MS)
        return { name, ok: true, detail: 'running' };
    }
    if (performance.now() > end) return { name, ok: false, detail: state.health ?? state.state };
    await sleep(POLL_MS, undefined, { signal });
  }
}

/** How long a service may take to answer after it was started, milliseconds. */
const ANSWER_LIMIT_MS = 60_000;
const ANSWER_POLL_MS = 1000;

/** Asks a URL until it answers 2xx, for at most a minute. Its query may hold a secret, so it is not told. */
export async function answersWell(url: URL, signal: AbortSignal): Promise<ServiceCheck> {
  const name = `${url.host}${url.pathname}`;
  const end = performance.now() + ANSWER_LIMIT_MS;
  for (;;) {
    const detail = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(10_000)]) }).then(
      async (response) => {
        await response.body?.cancel();
        return response.ok ? undefined : `status ${response.status}`;
      },
      () => 'no answer',
    );
    if (detail === undefined) return { name, ok: true, detail: 'answers' };
    signal.throwIfAborted();
    if (performance.now() > end) return { name, ok: false, detail };
    await sleep(ANSWER_POLL_MS, undefined, { signal });
  }
}
