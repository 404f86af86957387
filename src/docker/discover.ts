import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ContainerFacts, ContainerLife, MountingContainer } from '../plan/model.ts';
import type { ContainerDetails, ContainerSummary } from './answers.ts';
import type { CallOptions, Engine } from './engine.ts';
import { isNotFound } from './engine-errors.ts';
import { RUN_LABEL } from './helper-labels.ts';
import { listWithNetworks } from './network.ts';
import { placeOf, type ServiceLabels, withServiceLabels } from './swarm.ts';

/** The number of concurrent inspections: enough to be quick, few enough not to burden the engine. */
const CONCURRENCY = 8;

/** Events that can change a plan. Others, such as the execs of health checks, occur many times a minute. */
const ACTIONS = ['create', 'start', 'die', 'destroy', 'rename', 'update'] as const;
const DEBOUNCE_MS = 500;
const FIRST_RETRY_MS = 250;
const MAX_RETRY_MS = 15_000;
/**
 * The engine responds before it subscribes, and its clock may differ a little. Some events arrive twice, but none is
 * missed.
 */
const OVERLAP_S = 5;

// The labels of an image id never change. Caching them means that a listing every minute needs no image inspections.
const imageLabels = new WeakMap<Engine, Map<string, Record<string, string>>>();

/** The facts that the last plan had about containers outside its scope. */
const foreignFacts = new WeakMap<Engine, Map<string, ContainerFacts>>();

/**
 * Lists the containers that matter to planning, sorted by name, running or not: those of a Compose project, with a
 * label that starts with `lifeboat`, or in the network namespace of another container. Leaves out helpers, and
 * containers that vanish meanwhile.
 *
 * @param options `all`: also lists containers that belong to no project and have no such label
 */
export async function listFacts(
  engine: Engine,
  options: CallOptions & { all?: boolean } = {},
): Promise<ContainerFacts[]> {
  const { all = false, ...call } = options;
  const listed = await listWithNetworks(engine, call);
  return inspectAll(
    listed.filter((one) => isCandidate(one, all)),
    (one) => factsOf(engine, one.id, call),
  );
}

/**
 * Lists like {@link listFacts}, for a plan. Inspects a container that is not the plan's `own` only once, and afterwards
 * completes the facts with what the list says: an engine may have many, and each event leads to a plan.
 *
 * @param isOwn whether the plan needs the times and networks of the containers of a Compose project. Those of others
 *   may be old. Everything else is always up to date
 * @returns also the mounts of all other containers, which cost no further calls
 */
export async function listForPlan(
  engine: Engine,
  isOwn: (project: string) => boolean,
): Promise<{ facts: ContainerFacts[]; others: MountingContainer[] }> {
  const listed = await listWithNetworks(engine);
  const before = foreignFacts.get(engine);
  const now = new Map<string, ContainerFacts>();
  const facts = await inspectAll(
    listed.filter((one) => isCandidate(one, false)),
    async (one) => {
      if (isOwn(placeOf(one.labels)?.project ?? '')) return factsOf(engine, one.id, {});
      const known = before?.get(one.id) ?? (await factsOf(engine, one.id, {}));
      if (!known) return undefined;
      if (known.unreadLabels === undefined) now.set(one.id, known);
      const { name, state } = one;
      return { ...known, name, running: isRunning(state), ...(known.life ? { life: { ...known.life, state } } : {}) };
    },
  );
  foreignFacts.set(engine, now);
  const others = listed.filter((one) => !isCandidate(one, false) && !(RUN_LABEL in one.labels));
  return { facts, others: others.map(toMounting) };
}

async function inspectAll(
  listed: readonly ContainerSummary[],
  inspect: (one: ContainerSummary) => Promise<ContainerFacts | undefined>,
): Promise<ContainerFacts[]> {
  const queue = [...listed];
  const facts: ContainerFacts[] = [];
  const worker = async () => {
    for (let next = queue.pop(); next; next = queue.pop()) {
      const found = await inspect(next);
      if (found) facts.push(found);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return facts.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function toMounting({ id, name, state, labels, mounts }: ContainerSummary): MountingContainer {
  return { id, project: '', service: name, running: isRunning(state), life: { state }, labels, mounts };
}

/** Returns whether the processes of a container exist, as `State.Running` of an inspection says. */
function isRunning(state: string): boolean {
  return ['running', 'paused', 'restarting'].includes(state);
}

function isCandidate({ labels, networkMode }: ContainerSummary, all: boolean): boolean {
  if (RUN_LABEL in labels) return false;
  if (all) return true;
  // As broad as the check for misspelt keys in planning (ownLabels of plan/labels): `Lifeboat.Postgres` must be
  // reported, not ignored.
  if (networkMode.startsWith('container:')) return true;
  return placeOf(labels) !== undefined || Object.keys(labels).some((key) => /^lifeboat/i.test(key));
}

/** Returns undefined for a container that is gone. */
export async function factsOf(engine: Engine, id: string, options: CallOptions): Promise<ContainerFacts | undefined> {
  try {
    const details = await engine.inspectContainer(id, options);
    const all = await withServiceLabels(engine, details.labels, options);
    return toFacts({ ...details, ...all }, await labelsOfImage(engine, details.imageId, options));
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/**
 * Returns the labels of an image. An image can be removed by force while a container uses it; then its labels count as
 * empty.
 */
async function labelsOfImage(engine: Engine, id: string, options: CallOptions): Promise<Record<string, string>> {
  const cache = imageLabels.get(engine) ?? new Map<string, Record<string, string>>();
  imageLabels.set(engine, cache);
  const known = cache.get(id);
  if (known) return known;
  try {
    const { labels } = await engine.inspectImage(id, options);
    cache.set(id, labels);
    return labels;
  } catch (error) {
    if (isNotFound(error)) return {};
    throw error;
  }
}

function toFacts(details: ContainerDetails & ServiceLabels, labels: Record<string, string>): ContainerFacts {
  return {
    id: details.id,
    name: details.name,
    ...{ project: '', service: details.name, ...placeOf(details.labels) },
    imageId: details.imageId,
    running: details.running,
    life: lifeOf(details),
    labels: details.labels,
    ...(details.unreadLabels === undefined ? {} : { unreadLabels: details.unreadLabels }),
    imageLabels: labels,
    env: details.env,
    command: details.command,
    mounts: details.mounts,
    networkMode: details.networkMode,
    ipcMode: details.ipcMode,
    pidMode: details.pidMode,
    ...(details.autoRemove ? { autoRemove: true } : {}),
    networks: details.networks,
    ...(details.stopTimeout === undefined ? {} : { stopTimeout: details.stopTimeout }),
  };
}

function lifeOf({ state, restartPolicy, createdAt, startedAt, finishedAt }: ContainerDetails): ContainerLife {
  return { state, restartPolicy, createdAt, startedAt, finishedAt };
}

interface WatchOptions {
  /**
   * Called to list everything again: after each connection, and after containers other than helpers have changed. Never
   * runs twice at a time.
   */
  onChange: () => void | Promise<void>;
  log: Log;
  signal: AbortSignal;
  /** how long changes are collected before `onChange` is called, milliseconds; default 500 */
  debounceMs?: number;
}

/**
 * Watches the containers of an engine until the signal aborts, then resolves. When the connection ends, reconnects with
 * growing pauses of at most 15 s, and lists everything again, so no change is missed.
 */
export async function watch(engine: Engine, options: WatchOptions): Promise<void> {
  const { log, signal } = options;
  const changed = debounced(options);
  let since = Date.now() / 1000 - OVERLAP_S;
  let retry = FIRST_RETRY_MS;
  let away = false;
  while (!signal.aborted) {
    let opened = Number.POSITIVE_INFINITY;
    try {
      const events = await engine.events({ since, actions: ACTIONS, signal });
      opened = performance.now();
      if (away) log.info('the Docker engine is back');
      away = false;
      changed.ask();
      for await (const event of events) {
        since = Math.max(since, event.time);
        // No plan depends on helpers, and each run creates several.
        if (!(RUN_LABEL in event.attributes)) changed.ask();
      }
    } catch (error) {
      if (signal.aborted) break;
      // A broken stream is not worth a log line: proxies end idle streams every few minutes.
      if (!away && opened === Number.POSITIVE_INFINITY) {
        log.warn('the Docker engine cannot be reached; trying again', { ...errorInfo(error) });
        away = true;
      }
    }
    // The pause resets only after a connection that lasted. Otherwise, a connection that ends at once would be retried
    // four times a second.
    if (performance.now() - opened > MAX_RETRY_MS) retry = FIRST_RETRY_MS;
    await sleep(retry, undefined, { signal }).catch(() => {});
    retry = Math.min(retry * 2, MAX_RETRY_MS);
  }
  await changed.stop();
}

/** Calls `onChange` once for many requests, a while after the first, and again for requests that arrive meanwhile. */
function debounced({ onChange, log, debounceMs = DEBOUNCE_MS }: WatchOptions): { ask(): void; stop(): Promise<void> } {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> = Promise.resolve();
  return {
    ask() {
      timer ??= setTimeout(() => {
        running = running.then(async () => {
          timer = undefined;
          try {
            await onChange();
          } catch (error) {
            log.error('containers changed, but the plan could not be updated', { ...errorInfo(error) });
          }
        });
      }, debounceMs);
    },
    async stop() {
      clearTimeout(timer);
      await running;
    },
  };
}
