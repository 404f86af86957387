import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ContainerFacts, ContainerLife } from '../plan/model.ts';
import type { ContainerDetails } from './answers.ts';
import type { CallOptions, Engine } from './engine.ts';
import { isNotFound } from './engine-errors.ts';
import { RUN_LABEL } from './helper-labels.ts';

const PROJECT = 'com.docker.compose.project';
const SERVICE = 'com.docker.compose.service';
/** How many inspections are under way at a time: enough to be quick, few enough not to trouble the engine. */
const CONCURRENCY = 8;

/** Events that can change a plan. Others, such as the execs of health checks, come many times a minute. */
const ACTIONS = ['create', 'start', 'die', 'destroy', 'rename', 'update'] as const;
const DEBOUNCE_MS = 500;
const FIRST_RETRY_MS = 250;
const MAX_RETRY_MS = 15_000;
/**
 * The engine answers before it listens, and its clock may differ a little: a few events come twice instead of never.
 */
const OVERLAP_S = 5;

// Images do not change under their id. Kept per engine, so that a listing every minute costs no image inspections.
const imageLabels = new WeakMap<Engine, Map<string, Record<string, string>>>();

/**
 * The containers that planning may be interested in: of a Compose project, or with a label that starts with `lifeboat`;
 * running or not, helpers left out, sorted by name. One that vanishes meanwhile is left out.
 */
export async function listFacts(engine: Engine, options: CallOptions = {}): Promise<ContainerFacts[]> {
  const listed = await engine.listContainers(options);
  const queue = listed.filter(({ labels }) => isCandidate(labels));
  const facts: ContainerFacts[] = [];
  const worker = async () => {
    for (let next = queue.pop(); next; next = queue.pop()) {
      const found = await factsOf(engine, next.id, options);
      if (found) facts.push(found);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return facts.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function isCandidate(labels: Record<string, string>): boolean {
  if (RUN_LABEL in labels) return false;
  // As wide as planning looks for misspelt keys (ownLabels of plan/labels): `Lifeboat.Postgres` is to be told, not
  // passed over.
  return PROJECT in labels || Object.keys(labels).some((key) => /^lifeboat/i.test(key));
}

async function factsOf(engine: Engine, id: string, options: CallOptions): Promise<ContainerFacts | undefined> {
  try {
    const details = await engine.inspectContainer(id, options);
    return toFacts(details, await labelsOfImage(engine, details.imageId, options));
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** An image can be removed by force under a container that uses it; its labels are then unknown, as if it had none. */
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
    project: details.labels[PROJECT] ?? '',
    service: details.labels[SERVICE] ?? details.name,
    imageId: details.imageId,
    running: details.running,
    life: lifeOf(details),
    labels: details.labels,
    imageLabels: labels,
    env: details.env,
    command: details.command,
    mounts: details.mounts,
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

/** What the agent can read of itself. An argument of {@link findSelf} for its tests. */
interface SelfClues {
  mountinfo: string;
  cgroup: string;
  hostname: string;
}

/**
 * Finds the container that this process runs in. Throws AGENT_NOT_IN_CONTAINER when no clue leads to one the engine
 * knows.
 */
export async function findSelf(engine: Engine, options: CallOptions & { clues?: SelfClues } = {}): Promise<Self> {
  const clues = options.clues ?? (await readClues());
  for (const id of candidateIds(clues)) {
    const facts = await factsOf(engine, id, options);
    if (facts?.id.startsWith(id)) return { facts };
  }
  throw new LifeboatError('AGENT_NOT_IN_CONTAINER', 'the agent cannot find its own container on this engine', {
    hint: 'Run it with docker compose, on the engine whose socket it was given, and without a hostname of its own.',
  });
}

/**
 * Ids that this process may run under, surest first: the cgroup path names the own container (cgroup v1, or a shared
 * cgroup namespace); the sources of /etc/hostname, hosts and resolv.conf lie in its directory on the host (but in the
 * other's with `network_mode: container:…`); the hostname is the short id unless it was set.
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
   * Asked to list everything again: after each connection, and after containers changed. Never called twice at a time.
   */
  onChange: () => void | Promise<void>;
  log: Log;
  signal: AbortSignal;
  /** how long changes are gathered before they are followed, in ms; default 500 */
  debounceMs?: number;
}

/**
 * Watches an engine's containers until the signal aborts, then resolves. When the connection ends, it is opened again,
 * with growing pauses of at most 15 s, and everything is listed anew, so that nothing that happened meanwhile is
 * missed.
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
        changed.ask();
      }
    } catch (error) {
      if (signal.aborted) break;
      // An open stream that breaks is not worth a line: proxies end quiet ones every few minutes.
      if (!away && opened === Number.POSITIVE_INFINITY) {
        log.warn('the Docker engine is away; trying again', { ...errorInfo(error) });
        away = true;
      }
    }
    // Only a connection that held counts as good, else one that is ended at once would be tried four times a second.
    if (performance.now() - opened > MAX_RETRY_MS) retry = FIRST_RETRY_MS;
    await sleep(retry, undefined, { signal }).catch(() => {});
    retry = Math.min(retry * 2, MAX_RETRY_MS);
  }
  await changed.stop();
}

/**
 * Calls `onChange` once for many requests, a while after the first of them, and again for those that came meanwhile.
 */
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
            log.error('containers changed, but that could not be followed', { ...errorInfo(error) });
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
