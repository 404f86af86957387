import { setTimeout as sleep } from 'node:timers/promises';
import { onAbort } from '../base/abort.ts';
import { hasCode, LifeboatError } from '../base/errors.ts';
import type { Engine } from '../docker/engine.ts';
import { STOP_TIMEOUT_S } from '../docker/stops.ts';
import type { Hook, PlannedSource } from '../plan/model.ts';
import type { ContainerRef, JournalEntry } from './journal.ts';
import { type HoldDeps, releaseHolds, runPre } from './release.ts';

/** The time beyond its timeout that the engine may take to stop a container, milliseconds. */
const STOP_MARGIN_MS = 30_000;

/** Exit status of a container that was killed, by the engine after the timeout or by somebody else. */
const KILLED = 137;

/** The actions of a run on a service's containers, before and after it captures their sources. */
export interface Hold {
  /** the container that hooks run in */
  container: ContainerRef;
  pre?: Hook;
  post?: Hook;
  /** the containers to stop */
  stop: ContainerRef[];
  /** returns true for a failure after which no container may start; recovery of the run starts them later */
  leftHeld?: (error: unknown) => boolean;
  /**
   * `work` writes into what they use, so a paused one fails the hold. Default: a paused one stays paused, with a
   * warning
   */
  refusePaused?: true;
}

/** Returns the hold that a source requests, or undefined if it requests none. */
export function holdOf(source: PlannedSource): Hold | undefined {
  const { project, service, containerId, containerName } = source;
  const stop = source.kind === 'volume' ? source.stop.map((one) => ({ project, service, ...one })) : [];
  if (stop.length === 0 && !source.pre && !source.post) return undefined;
  const container = { id: containerId, name: containerName, project, service };
  return {
    container,
    stop,
    ...(source.pre ? { pre: source.pre } : {}),
    ...(source.post ? { post: source.post } : {}),
  };
}

/**
 * Runs `work` while containers are held: after `pre` has run and the containers are stopped. Afterwards, even if `work`
 * fails, starts the containers that ran before, and runs `post` if `pre` was begun. Records every step before it takes
 * it, so that {@link releaseHolds} can finish after a failure or a crash. `work` gets warnings about how the containers
 * stopped, and a function that finds out whether one of them was started meanwhile, see {@link whyStarted}.
 *
 * @throws HOOK_FAILED when `pre` fails (then `work` does not run) or `post` does; the errors of `work`
 */
export async function withHold<T>(
  hold: Hold,
  deps: HoldDeps,
  signal: AbortSignal,
  work: (warnings: string[], started: FindStarted) => Promise<T>,
): Promise<T> {
  await runningOf(hold, deps.engine);
  const hooked = (hold.pre || hold.post) && (await canRunHooks(hold.container, deps.engine));
  const done: JournalEntry[] = [];
  const record = (entry: JournalEntry) => {
    deps.record(entry);
    done.push(entry);
  };
  if (hooked && hold.post) record({ type: 'hook', container: hold.container, post: hold.post });
  const holdAndWork = async () => {
    if (hooked && hold.pre) await runPre({ ...deps, record }, hold.container, hold.pre, signal);
    // `pre` may take minutes and restart a container, so the state right before the stop is what counts.
    const { stops, paused } = await runningOf(hold, deps.engine);
    const warnings = await stopAll(stops, { ...deps, record }, signal);
    for (const { container } of paused) warnings.push(`${container.name} ${LEFT_PAUSED}`);
    return work(warnings, (ids) => whyStarted({ stops, paused }, ids, deps.engine));
  };
  const [result] = await Promise.allSettled([holdAndWork()]);
  if (result.status === 'rejected' && hold.leftHeld?.(result.reason)) throw result.reason;
  const { failures } = await releaseHolds(done, deps);
  if (result.status === 'rejected') throw result.reason;
  if (failures.length > 0) throw failures[0];
  return result.value;
}

/**
 * The warning about a paused container. A stop would end its processes, and the start afterwards would not pause it.
 */
const LEFT_PAUSED =
  'is paused, so it was neither stopped nor started: its files are stored as they were when it was paused';

/** Whether the commands of a hold can run. Throws HOOK_FAILED when the container is paused. */
async function canRunHooks({ id, name }: ContainerRef, engine: Engine): Promise<boolean> {
  const { running, paused } = await engine.inspectContainer(id);
  if (running && paused) {
    throw new LifeboatError('HOOK_FAILED', `${name} is paused, so its lifeboat.exec commands cannot run`, {
      hint: `Run \`docker unpause ${name}\`, then run the backup again.`,
    });
  }
  return running;
}

/** A container to stop, with its state before. */
interface Stop {
  container: ContainerRef;
  startedAt: string;
  /** seconds */
  timeout: number;
}

interface Running {
  stops: Stop[];
  /** not stopped */
  paused: Stop[];
}

/** Returns the containers that run. Throws HOOK_FAILED when a stop would remove one, and {@link pausedError}. */
async function runningOf({ stop, refusePaused }: Hold, engine: Engine): Promise<Running> {
  const stops: Stop[] = [];
  const paused: Stop[] = [];
  for (const container of stop) {
    const { running, autoRemove, startedAt, stopTimeout, ...state } = await engine.inspectContainer(container.id);
    if (!running) continue;
    const one = { container, startedAt, timeout: stopTimeout ?? STOP_TIMEOUT_S };
    if (state.paused) {
      if (refusePaused) throw pausedError(container.name);
      paused.push(one);
      continue;
    }
    if (autoRemove) {
      throw new LifeboatError('HOOK_FAILED', `${container.name} would be removed when it is stopped`, {
        hint: 'Start it without --rm, or remove lifeboat.stop.',
      });
    }
    stops.push(one);
  }
  return { stops, paused };
}

/**
 * Returns TREE_TARGET_REFUSED for a restore of data that a paused container uses. It keeps files open and continues
 * with them after somebody unpauses it. A stop would end processes that somebody paused on purpose.
 */
export function pausedError(name: string): LifeboatError {
  return new LifeboatError('TREE_TARGET_REFUSED', `${name} is paused and uses the data that would be replaced`, {
    hint: `Nothing was changed. Run \`docker unpause ${name}\` or \`docker stop ${name}\`, then try again.`,
  });
}

/** {@link whyStarted} for the containers with these ids. */
export type FindStarted = (ids: readonly string[]) => Promise<LifeboatError | undefined>;

/** Returns HOOK_FAILED if somebody started or unpaused one of these containers during the work, else undefined. */
async function whyStarted(
  { stops, paused }: Running,
  ids: readonly string[],
  engine: Engine,
): Promise<LifeboatError | undefined> {
  for (const { container } of paused.filter((one) => ids.includes(one.container.id))) {
    const now = await engine.inspectContainer(container.id).catch(() => undefined);
    if (!now || now.paused) continue;
    return new LifeboatError('HOOK_FAILED', `${container.name} was unpaused while its volumes were read`, {
      hint: 'The stored files may not be consistent with each other: run the backup again, which stops the container.',
    });
  }
  for (const { container, startedAt } of stops.filter((stop) => ids.includes(stop.container.id))) {
    // A removed container cannot have written.
    const now = await engine.inspectContainer(container.id).catch(() => undefined);
    if (!now || now.startedAt === startedAt) continue;
    const { name } = container;
    const message = now.running
      ? `${name} was started while its volumes were read`
      : `${name} was started and stopped again while its volumes were read, and is stopped now`;
    const start = now.running ? '' : `Start ${name} if it is meant to run. `;
    return new LifeboatError('HOOK_FAILED', message, {
      hint: `${start}The stored files may not be consistent with each other: run the backup again, and do not start or restart the service until it ends.`,
    });
  }
  return undefined;
}

/**
 * Stops all containers at the same time and returns warnings. If one cannot be stopped, waits for the others, then
 * throws.
 */
async function stopAll(stops: readonly Stop[], deps: HoldDeps, signal: AbortSignal): Promise<string[]> {
  signal.throwIfAborted();
  const warnings: string[] = [];
  for (const { container, startedAt, timeout } of stops) {
    const at = new Date().toISOString();
    const until = new Date(Date.now() + timeout * 1000 + STOP_MARGIN_MS).toISOString();
    deps.record({ type: 'stop', container, startedAt, at, timeout, until });
    deps.log.info('stopping a container', { container: container.name });
  }
  const patient = later(signal, deps.patienceMs);
  const stopOne = async ({ container: { id, name }, timeout }: Stop) => {
    await stopThrough(deps.engine, id, timeout, patient.signal);
    const { exitCode } = await deps.engine.inspectContainer(id, { signal: patient.signal });
    if (exitCode !== KILLED) return;
    warnings.push(
      `${name} did not stop within ${timeout} s and was killed, so its files may not be consistent; give it a longer stop_grace_period`,
    );
  };
  const results = await Promise.allSettled(stops.map(stopOne));
  patient.clear();
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  signal.throwIfAborted();
  return warnings;
}

/** A stop call that breaks after this time had reached the engine, milliseconds. */
const UNDER_WAY_MS = 2000;
const POLL_MS = 500;

/**
 * Stops a container. The call is silent until the stop ends. If a proxy cuts it for that, the engine continues the
 * stop.
 */
async function stopThrough(engine: Engine, id: string, timeout: number, signal: AbortSignal): Promise<void> {
  const from = performance.now();
  const end = from + timeout * 1000 + STOP_MARGIN_MS;
  try {
    await engine.stopContainer(id, { timeout, signal });
  } catch (error) {
    const isCut = hasCode(error, 'ENGINE_UNREACHABLE');
    if (signal.aborted || !isCut || performance.now() - from < UNDER_WAY_MS) throw error;
    while ((await engine.inspectContainer(id, { signal })).running) {
      if (performance.now() > end) throw error;
      await sleep(POLL_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

/** Returns a signal that aborts `ms` after another one. */
function later(signal: AbortSignal, ms: number): { signal: AbortSignal; clear(): void } {
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  if (signal.aborted) late.abort(signal.reason);
  const wait = () => {
    timer = setTimeout(() => late.abort(signal.reason), ms);
  };
  const forget = signal.aborted ? () => {} : onAbort(signal, wait);
  return {
    signal: late.signal,
    clear() {
      clearTimeout(timer);
      forget();
    },
  };
}
