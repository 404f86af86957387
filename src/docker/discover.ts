import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ContainerFacts, ContainerLife, MountingContainer } from '../plan/model.ts';
import type { ContainerDetails, ContainerSummary } from './answers.ts';
import type { CallOptions, Engine } from './engine.ts';
import { isNotFound } from './engine-errors.ts';
import { RUN_LABEL } from './helper-labels.ts';
import { placeOf, withServiceLabels } from './swarm.ts';

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

/**
 * Lists the containers that matter to planning, sorted by name, running or not: those of a Compose project, with a
 * label that starts with `lifeboat`, or in the network namespace of another container. Leaves out helpers, and
 * containers that vanish meanwhile.
 *
 * @param options `all`: also lists containers that belong to no project and have no such label
 */
export async function listFacts(engine: Engine, options: ListOptions = {}): Promise<ContainerFacts[]> {
  return (await listFactsAndMounts(engine, options)).facts;
}

type ListOptions = CallOptions & { all?: boolean };

/** Like {@link listFacts}, with the mounts of all other containers, which cost no further calls. */
export async function listFactsAndMounts(
  engine: Engine,
  { all = false, ...options }: ListOptions = {},
): Promise<{ facts: ContainerFacts[]; others: MountingContainer[] }> {
  const listed = await engine.listContainers(options);
  const queue = listed.filter((one) => isCandidate(one, all));
  const facts: ContainerFacts[] = [];
  const worker = async () => {
    for (let next = queue.pop(); next; next = queue.pop()) {
      const found = await factsOf(engine, next.id, options);
      if (found) facts.push(found);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  facts.sort((a, b) => (a.name < b.name ? -1 : 1));
  const others = listed.filter((one) => !isCandidate(one, all) && !(RUN_LABEL in one.labels));
  return { facts, others: others.map(toMounting) };
}

function toMounting({ id, name, state, labels, mounts }: ContainerSummary): MountingContainer {
  const running = ['running', 'paused', 'restarting'].includes(state);
  return { id, project: '', service: name, running, life: { state }, labels, mounts };
}

function isCandidate({ labels, networkMode }: ContainerSummary, all: boolean): boolean {
  if (RUN_LABEL in labels) return false;
  if (all) return true;
  // As broad as the check for misspelt keys in planning (ownLabels of plan/labels): `Lifeboat.Postgres` must be
  // reported, not ignored.
  if (networkMode.startsWith('container:')) return true;
  return placeOf(labels) !== undefined || Object.keys(labels).some((key) => /^lifeboat/i.test(key));
}

async function factsOf(engine: Engine, id: string, options: CallOptions): Promise<ContainerFacts | undefined> {
  try {
    const details = await engine.inspectContainer(id, options);
    const labels = await withServiceLabels(engine, details.labels, options);
    return toFacts({ ...details, labels }, await labelsOfImage(engine, details.imageId, options));
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

function toFacts(details: ContainerDetails, labels: Record<string, string>): ContainerFacts {
  return {
    id: details.id,
    name: details.name,
    ...{ project: '', service: details.name, ...placeOf(details.labels) },
    imageId: details.imageId,
    running: details.running,
    life: lifeOf(details),
    labels: details.labels,
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

/** The agent's own container. */
export interface Self {
  facts: ContainerFacts;
}

/** The files and names by which the agent can identify itself. Tests pass their own to {@link findSelf}. */
interface SelfClues {
  mountinfo: string;
  cgroup: string;
  hostname: string;
}

/**
 * Finds the container that this process runs in. @throws AGENT_NOT_IN_CONTAINER if no clue leads to a container that
 * the engine knows
 */
export async function findSelf(engine: Engine, options: CallOptions & { clues?: SelfClues } = {}): Promise<Self> {
  const clues = options.clues ?? (await readClues());
  for (const id of candidateIds(clues)) {
    const facts = await factsOf(engine, id, options);
    if (facts?.id.startsWith(id)) return { facts };
  }
  throw new LifeboatError('AGENT_NOT_IN_CONTAINER', 'Lifeboat cannot find its own container on this engine', {
    hint: 'Run Lifeboat with docker compose, on the engine whose socket it uses, and do not set a hostname for it.',
  });
}

/**
 * Returns possible ids of this container, the most reliable first. The cgroup path contains the id (cgroup v1, or a
 * shared cgroup namespace). The sources of /etc/hostname, hosts and resolv.conf are in the container's directory on the
 * host (in the other container's with `network_mode: container:…`). The hostname is the short id unless it was set.
 */
export function candidateIds({ mountinfo, cgroup, hostname }: SelfClues): string[] {
  const ids: string[] = [];
  const last = [...cgroup.matchAll(/(?:docker[-/])([0-9a-f]{64})/g)].at(-1)?.[1];
  if (last) ids.push(last);
  for (const [, id] of mountinfo.matchAll(/\/containers\/([0-9a-f]{64})\/(?:hostname|hosts|resolv\.conf)/g)) {
    if (id) ids.push(id);
  }
  if (/^[0-9a-f]{12,64}$/.test(hostname)) ids.push(hostname);
  return [...new Set(ids)];
}

async function readClues(): Promise<SelfClues> {
  const read = (path: string) => readFile(path, 'utf8').catch(() => '');
  return {
    mountinfo: await read('/proc/self/mountinfo'),
    cgroup: await read('/proc/self/cgroup'),
    hostname: hostname(),
  };
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
