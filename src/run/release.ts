import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import { execText } from '../docker/exec.ts';
import { STOP_TIMEOUT_S } from '../docker/stops.ts';
import type { Hook } from '../plan/model.ts';
import type { ContainerRef, JournalEntry } from './journal.ts';
import { whyLeft } from './left-stopped.ts';

/** The time limit of a hook, milliseconds. */
const HOOK_LIMIT_MS = 15 * 60_000;

const POLL_MS = 250;

export interface HoldDeps {
  engine: Engine;
  record(entry: JournalEntry): void;
  log: Log;
  /** see {@link patienceOf} */
  patienceMs: number;
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
type PreEntry = JournalEntry & { type: 'pre' };

/** A container that is held according to a journal. */
interface OpenHold {
  container: ContainerRef;
  /** its stop, if it was not started again */
  stop?: StopEntry;
  /** see the journal entry `project-stop` */
  projectStop?: Date;
  /** the command that has not run yet */
  post?: Hook;
  /** the command that must end before `post` runs */
  pre?: PreEntry;
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
    if (entry.type === 'hook-done') delete held.post;
    open.set(container.id, held);
  }
  return [...open.values()].filter(({ stop, post }) => stop || post);
}

/**
 * Undoes the open holds of journal entries. Never rejects: logs failures and continues with the rest. Returns `again`
 * if another try may succeed.
 */
export async function releaseHolds(
  entries: readonly JournalEntry[],
  deps: HoldDeps,
): Promise<{ failures: unknown[]; again: boolean }> {
  const failures: unknown[] = [];
  let again = false;
  const open = openHolds(entries);
  const held = new Set(open.map(({ container }) => container.id));
  for (const { container, stop, post, pre, projectStop } of open) {
    try {
      if (stop && !(await startAgain(deps, stop, { held, projectStop }))) {
        again = true;
        continue;
      }
      if (post && pre) await preEnded(deps, pre);
      if (post) await runPost(deps, container, post);
    } catch (error) {
      const isOver = hasCode(error, 'HOOK_FAILED');
      const fields = { container: container.name, ...errorInfo(error) };
      deps.log.error(`a container could not be released${isOver ? '' : '; trying again'}`, fields);
      failures.push(error);
      again ||= !isOver;
    }
  }
  return { failures, again };
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
    deps.log.warn(`${now?.name} ${left.why}`, { container: container.name });
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

/**
 * Whether a stop is still under way. The engine continues a stop that nobody waits for, so a container that still runs
 * may end at any time. A start does nothing until then.
 */
function isStopping(stop: StopEntry, now: Current): boolean {
  if (stop.startedAt === undefined || stop.until === undefined) return false;
  return now.running && now.startedAt === stop.startedAt && Date.now() < Date.parse(stop.until);
}

/** Waits for a stop under way, for `stopWaitMs` at most, and returns the container's state then. */
async function onceStopped(deps: HoldDeps, stop: StopEntry): Promise<Current | undefined> {
  const patient = performance.now() + (deps.stopWaitMs ?? 0);
  for (;;) {
    const now = await current(deps.engine, stop.container);
    if (!now || !isStopping(stop, now) || performance.now() >= patient) return now;
    await sleep(POLL_MS);
  }
}

/**
 * Waits for the end of `pre`, because the engine continues an exec that nobody waits for, and `post` must not run at
 * the same time.
 */
async function preEnded({ engine, patienceMs }: HoldDeps, { container, exec, until }: PreEntry): Promise<void> {
  const patient = performance.now() + patienceMs;
  while (Date.now() < Date.parse(until)) {
    const state = await engine.execInspect(exec).catch((error: unknown) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (!state?.running) return;
    if (performance.now() >= patient) {
      const message = `lifeboat.exec.pre still runs in ${container.name}, so lifeboat.exec.post is not run yet`;
      throw new LifeboatError('INTERRUPTED', message);
    }
    await sleep(POLL_MS);
  }
}

/** Runs `post`. A command that ran and failed is not retried; a command that could not run is. */
async function runPost(deps: HoldDeps, container: ContainerRef, post: Hook): Promise<void> {
  const now = await current(deps.engine, container);
  try {
    if (now?.running) await runHook({ engine: deps.engine, container: now, which: 'post', hook: post });
    else throw new LifeboatError('HOOK_FAILED', `lifeboat.exec.post could not be run: ${container.name} does not run`);
  } catch (error) {
    if (hasCode(error, 'HOOK_FAILED')) deps.record({ type: 'hook-done', container });
    throw error;
  }
  deps.record({ type: 'hook-done', container });
}

type Current = ContainerRef & { running: boolean; startedAt: string };

/**
 * Returns the current container of the service: the same one, or its replacement by Compose. Returns undefined if it is
 * gone.
 */
async function current(engine: Engine, container: ContainerRef): Promise<Current | undefined> {
  try {
    const { running, startedAt } = await engine.inspectContainer(container.id);
    return { ...container, running, startedAt };
  } catch (error) {
    if (!isNotFound(error)) throw error;
    const labels = [
      `com.docker.compose.project=${container.project}`,
      `com.docker.compose.service=${container.service}`,
    ];
    // If the service has several containers, it is unknown which one is the replacement.
    const [successor, another] = container.service === '' ? [] : await engine.listContainers({ labels });
    if (!successor || another) return undefined;
    const { running, startedAt } = await engine.inspectContainer(successor.id);
    return { ...container, id: successor.id, name: successor.name, running, startedAt };
  }
}

/** Runs `pre` and records its exec. Throws as {@link runHook}. */
export async function runPre(deps: HoldDeps, container: ContainerRef, pre: Hook, signal: AbortSignal): Promise<void> {
  const until = new Date(Date.now() + HOOK_LIMIT_MS).toISOString();
  const begun = (exec: string) => deps.record({ type: 'pre', container, exec, until });
  await runHook({ engine: deps.engine, container, which: 'pre', hook: pre, signal, onCreated: begun });
}

interface RunHookOptions {
  engine: Engine;
  container: ContainerRef;
  which: 'pre' | 'post' | 'restored';
  hook: Hook;
  signal?: AbortSignal | undefined;
  onCreated?: ((execId: string) => void) | undefined;
}

/**
 * Runs a command of `lifeboat.exec` in a container. Calls `onCreated` with the id of the exec before the command
 * starts.
 *
 * @throws HOOK_FAILED when the command fails; ENGINE_UNREACHABLE when it is unknown whether it ran; the reason of
 * `signal`
 */
export async function runHook({ engine, container, which, hook, signal, onCreated }: RunHookOptions): Promise<void> {
  const limit = AbortSignal.timeout(HOOK_LIMIT_MS);
  const bounded = signal ? AbortSignal.any([signal, limit]) : limit;
  try {
    await execText(engine, container.id, { ...hook, signal: bounded, ...(onCreated ? { onCreated } : {}) });
  } catch (error) {
    // It is unknown whether the command ran, so this is no failure of the command.
    const away = hasCode(error, 'ENGINE_UNREACHABLE') && !limit.aborted;
    if (signal?.aborted || away) throw error;
    throw new LifeboatError('HOOK_FAILED', `lifeboat.exec.${which} in ${container.name} failed`, {
      cause: error,
      // The hint omits the arguments, because they may contain a password.
      hint: `Look at the command ${JSON.stringify(hook.argv[0])} of the label lifeboat.exec.${which}, and try it with docker exec.`,
    });
  }
}
