import { LifeboatError, toLifeboatError } from '../base/errors.ts';
import { listFacts } from '../docker/discover.ts';
import type { Engine } from '../docker/engine.ts';
import { STOP_TIMEOUT_S } from '../docker/stops.ts';
import type { Hook, PlannedSource } from '../plan/model.ts';
import { describeKeptGuest, findGuests, isTask } from '../plan/services.ts';
import { type Current, current, currentAll } from './current.ts';
import { runPre } from './hooks.ts';
import type { ContainerRef, JournalEntry } from './journal.ts';
import { type HoldDeps, type ReleaseFailure, releaseHolds } from './release.ts';
import { later, type Stop, stopAll } from './stop-all.ts';

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
  /** ids of containers that `work` needs, so they are not stopped as guests of a stopped one */
  needed?: readonly string[];
  /** called with each step of the release that failed; absent: the hold fails with them */
  onFailure?: (failure: ReleaseFailure) => void;
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
 * Runs `work` while containers are held: after `pre` has run and the containers are stopped, with all containers that
 * use their namespaces. Afterwards, even if `work` fails, starts the containers that ran before, and runs `post` if
 * `pre` was begun. Records every step before it takes it, so that {@link releaseHolds} can finish after a failure or a
 * crash. `work` gets warnings about how the containers stopped, and a function that finds out whether one of them was
 * started meanwhile, see {@link whyStarted}.
 *
 * @throws HOOK_FAILED when `pre` fails (then `work` does not run); the errors of `work`; without `onFailure` those of
 * the release, unless `work` failed
 */
export async function withHold<T>(
  hold: Hold,
  deps: HoldDeps,
  signal: AbortSignal,
  work: (warnings: string[], started: FindStarted) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  await runningOf(hold, deps);
  const hooked = hold.pre || hold.post ? await findForHooks(hold.container, deps.engine) : undefined;
  // Nothing has begun, so nothing has to be undone.
  signal.throwIfAborted();
  const done: JournalEntry[] = [];
  const record = (entry: JournalEntry) => {
    deps.record(entry);
    done.push(entry);
  };
  const patient = later(signal, deps.patienceMs);
  if (hooked && hold.post) record({ type: 'hook', container: hooked, post: hold.post });
  const holdAndWork = async () => {
    if (hooked && hold.pre) await runPre({ ...deps, record }, hooked, hold.pre, signal);
    // `pre` may take minutes and restart a container, so the state right before the stop is what counts.
    const running = await runningOf(hold, deps);
    const warnings = await stopAll(running.stops, { ...deps, record }, signal, patient.signal);
    return work([...warnings, ...running.warnings], (ids) => whyStarted(running, ids, deps.engine));
  };
  const [result] = await Promise.allSettled([holdAndWork()]);
  if (result.status === 'rejected' && hold.leftHeld?.(result.reason)) {
    patient.clear();
    throw result.reason;
  }
  const { failures } = await releaseHolds(done, { ...deps, record }, patient.signal);
  patient.clear();
  for (const failure of failures) hold.onFailure?.(failure);
  if (result.status === 'rejected') throw result.reason;
  if (failures.length > 0 && !hold.onFailure) throw releaseError(failures.map(({ error }) => error));
  return result.value;
}

/** Returns one error for all failures of a release: the first, whose message names the others. */
function releaseError([first, ...others]: unknown[]): unknown {
  if (others.length === 0) return first;
  const { code, message, hint, cause } = toLifeboatError(first);
  const messages = [message, ...others.map((error) => toLifeboatError(error).message)];
  return new LifeboatError(code, messages.join('; '), { cause, ...(hint === undefined ? {} : { hint }) });
}

/**
 * The warning about a paused container. A stop would end its processes, and the start afterwards would not pause it.
 */
const LEFT_PAUSED =
  'is paused, so it was neither stopped nor started: its files are stored as they were when it was paused';

/** Returns the container that commands can run in, or undefined. Throws HOOK_FAILED when it is paused. */
async function findForHooks(container: ContainerRef, engine: Engine): Promise<ContainerRef | undefined> {
  const now = await current(engine, container);
  if (!now?.details.running) return undefined;
  const { name } = now.container;
  if (now.details.paused) {
    throw new LifeboatError('HOOK_FAILED', `${name} is paused, so its lifeboat.exec commands cannot run`, {
      hint: `Run \`docker unpause ${name}\`, then run the backup again.`,
    });
  }
  return now.container;
}

interface Running {
  stops: HeldStop[];
  /** not stopped */
  paused: HeldStop[];
  warnings: string[];
}

/** `of`: id of the container that the hold names, which a replacement may differ from. */
type HeldStop = Stop & { of: string };

/** Returns the containers that run. Throws HOOK_FAILED when a stop would remove one, and {@link pausedError}. */
async function runningOf({ stop, refusePaused, needed = [] }: Hold, deps: HoldDeps): Promise<Running> {
  const found: Running = { stops: [], paused: [], warnings: [] };
  const add = (one: Current, of: string) => {
    const { running, paused, autoRemove, startedAt, stopTimeout } = one.details;
    const { container } = one;
    if (!running || found.stops.some((known) => known.container.id === container.id)) return;
    const facts = { ...one.details, ...container };
    const held = { container, of, facts, startedAt, timeout: stopTimeout ?? STOP_TIMEOUT_S };
    if (paused) {
      if (refusePaused) throw pausedError(container.name);
      found.paused.push(held);
      found.warnings.push(`${container.name} ${LEFT_PAUSED}`);
      return;
    }
    if (autoRemove) {
      throw new LifeboatError('HOOK_FAILED', `${container.name} would be removed when it is stopped`, {
        hint: 'Start it without --rm, or remove lifeboat.stop.',
      });
    }
    if (isTask(one.details)) {
      throw new LifeboatError('HOOK_FAILED', `Swarm would replace ${container.name} when it is stopped`, {
        hint: 'Remove lifeboat.stop: on a Swarm, it has no use.',
      });
    }
    found.stops.push(held);
  };
  // A container that was recreated is stopped in its place. One that is gone cannot write.
  for (const container of stop) for (const one of await currentAll(deps.engine, container)) add(one, container.id);
  if (found.stops.length === 0) return found;
  const never = new Map([
    ...needed.map((id) => [id, 'the restore needs it'] as const),
    ...(deps.agent ? [[deps.agent.id, 'Lifeboat runs in it'] as const] : []),
  ]);
  const stopped = found.stops.map(({ container }) => container.id);
  for (const guest of findGuests(await listFacts(deps.engine, { all: true }), stopped, never)) {
    const { id, name, project, service } = guest.container;
    if (guest.whyNot) found.warnings.push(describeKeptGuest(guest));
    else for (const one of await currentAll(deps.engine, { id, name, project, service })) add(one, id);
  }
  return found;
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

/** Returns HOOK_FAILED if somebody started, unpaused or replaced one of these containers during the work. */
async function whyStarted(
  { stops, paused }: Running,
  ids: readonly string[],
  engine: Engine,
): Promise<LifeboatError | undefined> {
  const nowOf = (held: HeldStop) => currentAll(engine, held.container).catch((): Current[] => []);
  for (const held of paused.filter(({ of }) => ids.includes(of))) {
    const { id, name } = held.container;
    const now = (await nowOf(held)).find(({ container }) => container.id === id);
    if (!now || now.details.paused) continue;
    return new LifeboatError('HOOK_FAILED', `${name} was unpaused while its volumes were read`, {
      hint: 'The stored files may not be consistent with each other: run the backup again, which stops the container.',
    });
  }
  for (const held of stops.filter(({ of }) => ids.includes(of))) {
    for (const { container, details } of await nowOf(held)) {
      const isOwn = stops.some((one) => one.container.id === container.id && one.startedAt === details.startedAt);
      // A removed container cannot have written, and neither can a replacement that never ran.
      if (isOwn || Date.parse(details.startedAt) < 0) continue;
      return startedError(container.name, details.running);
    }
  }
  return undefined;
}

function startedError(name: string, running: boolean): LifeboatError {
  const message = running
    ? `${name} was started while its volumes were read`
    : `${name} was started and stopped again while its volumes were read, and is stopped now`;
  const start = running ? '' : `Start ${name} if it is meant to run. `;
  return new LifeboatError('HOOK_FAILED', message, {
    hint: `${start}The stored files may not be consistent with each other: run the backup again, and do not start or restart the service until it ends.`,
  });
}
