import type { Engine } from './docker/engine.ts';
import { isNotFound } from './docker/engine-errors.ts';
import { execText } from './docker/exec.ts';
import { errorInfo, LifeboatError } from './errors.ts';
import type { ContainerRef, JournalEntry } from './journal.ts';
import type { Log } from './log.ts';
import type { Hook, PlannedSource } from './plan/model.ts';

/** How long a container that says nothing else may take to stop before it is killed, seconds: Docker's own default. */
const STOP_TIMEOUT_S = 10;

/** How long a hook may run, milliseconds. */
const HOOK_LIMIT_MS = 15 * 60_000;

export interface HoldDeps {
  engine: Engine;
  record(entry: JournalEntry): void;
  log: Log;
}

/** What is done to a container around the capture of its sources. */
export interface Hold {
  container: ContainerRef;
  pre?: Hook;
  post?: Hook;
  stop: boolean;
}

/** The hold that a source asks for, or undefined when it asks for none. */
export function holdOf(source: PlannedSource, project: string): Hold | undefined {
  const stop = source.kind === 'volume' && source.stop;
  if (!stop && !source.pre && !source.post) return undefined;
  const container = { id: source.containerId, name: source.containerName, project, service: source.service };
  return { container, stop, ...(source.pre ? { pre: source.pre } : {}), ...(source.post ? { post: source.post } : {}) };
}

/**
 * Runs `work` while a container is held: `pre` has run in it, and it is stopped if asked. Whatever `work` comes to, the
 * container is started again if it was running, and `post` is run once `pre` was begun. Every step is recorded before it
 * is made, so that {@link releaseHolds} can finish what failed or what a crash cut short.
 *
 * Errors: HOOK_FAILED when `pre` fails (`work` is not begun) or `post` does; those of `work`.
 */
export async function withHold<T>(hold: Hold, deps: HoldDeps, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const { container } = hold;
  const { running, autoRemove, stopTimeout } = await deps.engine.inspectContainer(container.id);
  if (!running) return work();
  if (hold.stop && autoRemove) {
    throw new LifeboatError('HOOK_FAILED', `${container.name} would be removed when it is stopped`, {
      hint: 'Start it without --rm, or remove lifeboat.stop.',
    });
  }
  const done: JournalEntry[] = [];
  const record = (entry: JournalEntry) => {
    deps.record(entry);
    done.push(entry);
  };
  if (hold.post) record({ type: 'hook', container, post: hold.post });
  const [result] = await Promise.allSettled([
    holdAndWork(hold, { ...deps, record }, stopTimeout ?? STOP_TIMEOUT_S, signal, work),
  ]);
  const { failures } = await releaseHolds(done, deps);
  if (result.status === 'rejected') throw result.reason;
  if (failures.length > 0) throw failures[0];
  return result.value;
}

async function holdAndWork<T>(
  hold: Hold,
  deps: HoldDeps,
  timeout: number,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const { container } = hold;
  if (hold.pre) await runHook(deps.engine, container, 'pre', hold.pre, signal);
  if (!hold.stop) return work();
  deps.record({ type: 'stop', container });
  deps.log.info('stopping a container while its volumes are read', { container: container.name });
  await deps.engine.stopContainer(container.id, { timeout });
  return work();
}

/** A container that a journal shows as held. */
export interface OpenHold {
  container: ContainerRef;
  /** it was stopped, and not started again */
  stopped: boolean;
  /** the command that is still to be run */
  post?: Hook;
}

/** The holds that a journal shows as begun and not undone. */
export function openHolds(entries: readonly JournalEntry[]): OpenHold[] {
  const open = new Map<string, OpenHold>();
  for (const entry of entries) {
    if (!('container' in entry)) continue;
    const { post, ...held } = open.get(entry.container.id) ?? { container: entry.container, stopped: false };
    if (entry.type === 'stop') held.stopped = true;
    if (entry.type === 'started') held.stopped = false;
    const left = entry.type === 'hook' ? entry.post : entry.type === 'hook-done' ? undefined : post;
    open.set(entry.container.id, left ? { ...held, post: left } : held);
  }
  return [...open.values()].filter(({ stopped, post }) => stopped || post);
}

/**
 * Undoes the holds that journal entries show as open. Never rejects: failures are logged, the rest is still undone.
 * `again`: something could not be done now and is worth another try.
 */
export async function releaseHolds(
  entries: readonly JournalEntry[],
  deps: HoldDeps,
): Promise<{ failures: unknown[]; again: boolean }> {
  const failures: unknown[] = [];
  let again = false;
  for (const { container, stopped, post } of openHolds(entries)) {
    try {
      if (stopped) await startAgain(deps, container);
      if (post) await runPost(deps, container, post);
    } catch (error) {
      deps.log.error('a container could not be released', { container: container.name, ...errorInfo(error) });
      failures.push(error);
      again ||= !(error instanceof LifeboatError && error.code === 'HOOK_FAILED');
    }
  }
  return { failures, again };
}

async function startAgain(deps: HoldDeps, container: ContainerRef): Promise<void> {
  const now = await current(deps.engine, container);
  if (now) {
    await deps.engine.startContainer(now.id);
    deps.log.info('started the container again', { container: now.name });
  } else {
    deps.log.warn('the container that was stopped has been removed since', { container: container.name });
  }
  deps.record({ type: 'started', container });
}

/** Runs `post`. A command that ran and failed is not tried again; one that could not be run is. */
async function runPost(deps: HoldDeps, container: ContainerRef, post: Hook): Promise<void> {
  const now = await current(deps.engine, container);
  try {
    if (now?.running) await runHook(deps.engine, now, 'post', post);
    else throw new LifeboatError('HOOK_FAILED', `lifeboat.exec.post could not be run: ${container.name} does not run`);
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'HOOK_FAILED') deps.record({ type: 'hook-done', container });
    throw error;
  }
  deps.record({ type: 'hook-done', container });
}

/** The container that is this service now: the same, or the one that Compose made in its place; undefined when gone. */
async function current(
  engine: Engine,
  container: ContainerRef,
): Promise<(ContainerRef & { running: boolean }) | undefined> {
  try {
    const { running } = await engine.inspectContainer(container.id);
    return { ...container, running };
  } catch (error) {
    if (!isNotFound(error)) throw error;
    const labels = [
      `com.docker.compose.project=${container.project}`,
      `com.docker.compose.service=${container.service}`,
    ];
    // With several containers of the service nothing tells which one took its place.
    const [successor, another] = container.service === '' ? [] : await engine.listContainers({ labels });
    if (!successor || another) return undefined;
    const { running } = await engine.inspectContainer(successor.id);
    return { ...container, id: successor.id, name: successor.name, running };
  }
}

async function runHook(
  engine: Engine,
  container: ContainerRef,
  which: 'pre' | 'post',
  hook: Hook,
  signal?: AbortSignal,
) {
  const limit = AbortSignal.timeout(HOOK_LIMIT_MS);
  const bounded = signal ? AbortSignal.any([signal, limit]) : limit;
  try {
    await execText(engine, container.id, { argv: hook, signal: bounded });
  } catch (error) {
    // Whether the command ran is not known then: it is not the command that failed.
    const away = error instanceof LifeboatError && error.code === 'ENGINE_UNREACHABLE' && !limit.aborted;
    if (signal?.aborted || away) throw error;
    throw new LifeboatError('HOOK_FAILED', `lifeboat.exec.${which} in ${container.name} failed`, {
      cause: error,
      // Its arguments are not told: a password may be among them.
      hint: `Look at the command ${JSON.stringify(hook[0])} of the label lifeboat.exec.${which}, and try it with docker exec.`,
    });
  }
}
