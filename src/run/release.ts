import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Engine } from '../docker/engine.ts';
import { STOP_TIMEOUT_S } from '../docker/stops.ts';
import type { Hook } from '../plan/model.ts';
import { needs, sortByNeed } from '../plan/values/needs.ts';
import { type Current, current } from './current.ts';
import { type HookDeps, type OpenPost, runPost } from './hooks.ts';
import type { ContainerRef, JournalEntry } from './journal.ts';
import { whyLeft } from './left-stopped.ts';

const POLL_MS = 250;

/** `patienceMs`: see {@link patienceOf}. */
export interface HoldDeps extends HookDeps {
  log: Log;
  /** the agent's own container; absent: a stop of its whole project is not detected */
  agent?: { id: string; project: string; service: string };
  /** how long to wait for a stop that a dead run began, milliseconds; default: 0 */
  stopWaitMs?: number;
}

/** The part of the agent's own time to stop that the rest of an interrupted run needs, milliseconds. */
const REST_MS = 10_000;

/**
 * Returns how long an interrupted run waits for a stop or a `pre` under way, milliseconds: the agent's own
 * `stop_grace_period` (`grace`, seconds) without the time that the rest of the run needs, and at least as long as most
 * stops take.
 */
export function patienceOf(grace: number = STOP_TIMEOUT_S): number {
  return Math.max(3000, grace * 1000 - REST_MS);
}

type StopEntry = JournalEntry & { type: 'stop' };

/** A container that is held according to a journal. */
interface OpenHold extends Omit<OpenPost, 'post'> {
  /** its stop, if it was not started again */
  stop?: StopEntry;
  /** see the journal entry `project-stop` */
  projectStop?: Date;
  /** the command that has not run yet */
  post?: Hook;
}

/** Returns the holds of a journal that were begun and not undone. */
export function openHolds(entries: readonly JournalEntry[]): OpenHold[] {
  const open = new Map<string, OpenHold>();
  for (const entry of entries) {
    if (!('container' in entry)) continue;
    const { container } = entry;
    const held = open.get(container.id) ?? { container };
    if (entry.type === 'stop') held.stop = entry;
    if (entry.type === 'project-stop') held.projectStop = new Date(entry.at);
    if (entry.type === 'started') delete held.stop;
    if (entry.type === 'hook') held.post = entry.post;
    if (entry.type === 'pre') held.pre = entry;
    if (entry.type === 'post') held.begun = entry;
    if (entry.type === 'hook-done') {
      delete held.post;
      delete held.begun;
    }
    open.set(container.id, held);
  }
  return [...open.values()].filter(({ stop, post }) => stop || post);
}

/** A step of a release that failed. */
export interface ReleaseFailure {
  container: ContainerRef;
  error: unknown;
}

/**
 * Undoes the open holds of journal entries: starts all containers, each after those that it needs, then runs `post`.
 * Never rejects: logs failures and continues with the rest. Returns `again` if another try may succeed.
 *
 * @param signal ends the wait for `post` commands; their holds stay open
 */
export async function releaseHolds(
  entries: readonly JournalEntry[],
  deps: HoldDeps,
  signal?: AbortSignal,
): Promise<{ failures: ReleaseFailure[]; again: boolean }> {
  const failures: ReleaseFailure[] = [];
  const waiting = new Set<OpenHold>();
  const fail = (hold: OpenHold, error: unknown, isOver: boolean) => {
    const { container } = hold;
    const fields = { container: container.name, ...errorInfo(error) };
    deps.log.error(`a container could not be released${isOver ? '' : '; trying again'}`, fields);
    failures.push({ container, error });
    if (!isOver) waiting.add(hold);
  };
  const open = openHolds(entries);
  const held = new Set(open.map(({ container }) => container.id));
  for (const hold of await inStartOrder(deps.engine, open)) {
    const { stop, projectStop } = hold;
    try {
      if (stop && !(await startAgain(deps, stop, { held, projectStop }))) waiting.add(hold);
    } catch (error) {
      fail(hold, error, false);
    }
  }
  for (const hold of open) {
    const { post } = hold;
    if (!post || waiting.has(hold)) continue;
    const failure = await runPost(deps, { ...hold, post }, signal);
    if (failure) fail(hold, failure.error, failure.isOver);
  }
  return { failures, again: waiting.size > 0 };
}

/** Sorts holds so that each container comes after those that it needs, as far as the engine can say what it needs. */
async function inStartOrder(engine: Engine, holds: readonly OpenHold[]): Promise<OpenHold[]> {
  const found = await Promise.all(holds.map(({ container }) => current(engine, container).catch(() => undefined)));
  const facts = new Map(holds.map((hold, i) => [hold, factsOf(found[i])]));
  return sortByNeed(holds, (one, other) => {
    const [its, others] = [facts.get(one), facts.get(other)];
    return its !== undefined && others !== undefined && needs(its, others);
  });
}

function factsOf(now: Current | undefined) {
  return now && { ...now.details, ...now.container };
}

/** Starts a container again, or leaves it. Returns false while that decision is open. */
async function startAgain(
  deps: HoldDeps,
  stop: StopEntry,
  known: { held: ReadonlySet<string>; projectStop: Date | undefined },
): Promise<boolean> {
  const { container } = stop;
  const now = await onceStopped(deps, stop);
  const left = now && (await whyLeft(deps, stop, now, known));
  if (left) {
    deps.log.warn(`${now.name} ${left.why}`, { container: container.name });
    if (left.open) {
      if (!known.projectStop) deps.record({ type: 'project-stop', container, at: left.open.toISOString() });
      return false;
    }
  } else if (now) {
    await deps.engine.startContainer(now.id);
    if (isStopping(stop, now)) {
      throw new LifeboatError(
        'INTERRUPTED',
        `${now.name} is still being stopped; Lifeboat starts it when the stop has ended`,
      );
    }
    deps.log.info('started the container again', { container: now.name });
  } else {
    deps.log.warn('a container that Lifeboat stopped has been removed since', { container: container.name });
  }
  deps.record({ type: 'started', container });
  return true;
}

type Stopped = ContainerRef & { running: boolean; startedAt: string };

/**
 * Returns whether a stop is still under way. The engine continues a stop that nobody waits for, so a container that
 * still runs may end at any time. A start does nothing until then.
 */
function isStopping(stop: StopEntry, now: Stopped): boolean {
  if (stop.startedAt === undefined || stop.until === undefined) return false;
  return now.running && now.startedAt === stop.startedAt && Date.now() < Date.parse(stop.until);
}

/** Waits for a stop under way, for `stopWaitMs` at most, and returns the container's state then. */
async function onceStopped(deps: HoldDeps, stop: StopEntry): Promise<Stopped | undefined> {
  const patient = performance.now() + (deps.stopWaitMs ?? 0);
  for (;;) {
    const found = await current(deps.engine, stop.container);
    const now = found && { ...found.container, running: found.details.running, startedAt: found.details.startedAt };
    if (!now || !isStopping(stop, now) || performance.now() >= patient) return now;
    await sleep(POLL_MS);
  }
}
