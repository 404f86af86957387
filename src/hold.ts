import type { Engine } from './docker/engine.ts';
import { execText } from './docker/exec.ts';
import { isNotFound } from './docker/transport.ts';
import { LifeboatError } from './errors.ts';
import type { ContainerRef, JournalEntry } from './journal.ts';
import type { Log } from './log.ts';
import type { Hook, PlannedSource } from './plan/model.ts';

/** How long a container may take to stop before it is killed, seconds. */
const STOP_TIMEOUT_S = 60;

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
 * is made, so that {@link releaseHolds} can finish after a crash.
 *
 * Errors: HOOK_FAILED when `pre` fails (`work` is not begun) or `post` does; those of `work`.
 */
export async function withHold<T>(hold: Hold, deps: HoldDeps, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const { container } = hold;
  const { running, autoRemove } = await deps.engine.inspectContainer(container.id);
  if (!running) return work();
  if (hold.stop && autoRemove) {
    throw new LifeboatError('HOOK_FAILED', `${container.name} would be removed when it is stopped`, {
      hint: 'Start it without --rm, or remove lifeboat.stop.',
    });
  }
  if (hold.post) deps.record({ type: 'hook', container, post: hold.post });
  const [result] = await Promise.allSettled([holdAndWork(hold, deps, signal, work)]);
  const released = await release(hold, deps);
  if (result.status === 'rejected') throw result.reason;
  if (released !== undefined) throw released;
  return result.value;
}

async function holdAndWork<T>(hold: Hold, deps: HoldDeps, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const { container } = hold;
  if (hold.pre) await runHook(deps.engine, container, 'pre', hold.pre, signal);
  if (!hold.stop) return work();
  deps.record({ type: 'stop', container });
  deps.log.info('stopping a container while its volumes are read', { container: container.name });
  await deps.engine.stopContainer(container.id, { timeout: STOP_TIMEOUT_S });
  return work();
}

/** Starts again and runs `post`. Returns what failed, logged already, instead of throwing it. */
async function release(hold: Hold, deps: HoldDeps): Promise<unknown> {
  const { container } = hold;
  try {
    if (hold.stop) await startAgain(deps, container);
    if (hold.post) {
      await runHook(deps.engine, await current(deps.engine, container), 'post', hold.post);
      deps.record({ type: 'hook-done', container });
    }
    return undefined;
  } catch (error) {
    deps.log.error('a container could not be released', { container: container.name, error: String(error) });
    return error;
  }
}

/**
 * Undoes the holds that a dead run's journal shows as open. Failures are logged and the rest is still undone; resolves to
 * whether all were.
 */
export async function releaseHolds(entries: readonly JournalEntry[], deps: HoldDeps): Promise<boolean> {
  const open = new Map<string, { stop?: ContainerRef; hook?: { container: ContainerRef; post: Hook } }>();
  for (const entry of entries) {
    if (entry.type !== 'stop' && entry.type !== 'started' && entry.type !== 'hook' && entry.type !== 'hook-done')
      continue;
    const held = open.get(entry.container.id) ?? {};
    if (entry.type === 'stop') held.stop = entry.container;
    else if (entry.type === 'started') delete held.stop;
    else if (entry.type === 'hook') held.hook = entry;
    else delete held.hook;
    open.set(entry.container.id, held);
  }
  let released = true;
  for (const { stop, hook } of open.values()) {
    try {
      if (stop) await startAgain(deps, stop);
      if (hook) {
        const container = await current(deps.engine, hook.container);
        await runHook(deps.engine, container, 'post', hook.post);
        deps.record({ type: 'hook-done', container: hook.container });
      }
    } catch (error) {
      const name = (stop ?? hook?.container)?.name;
      deps.log.error('a container held by a dead run could not be released', { container: name, error: String(error) });
      released = false;
    }
  }
  return released;
}

async function startAgain(deps: HoldDeps, container: ContainerRef): Promise<void> {
  const now = await current(deps.engine, container);
  await deps.engine.startContainer(now.id);
  deps.record({ type: 'started', container });
  deps.log.info('started the container again', { container: now.name });
}

/** The container that is this service now: the same, or the one that Compose made in its place. */
async function current(engine: Engine, container: ContainerRef): Promise<ContainerRef> {
  try {
    await engine.inspectContainer(container.id);
    return container;
  } catch (error) {
    if (!isNotFound(error)) throw error;
    const labels = [
      `com.docker.compose.project=${container.project}`,
      `com.docker.compose.service=${container.service}`,
    ];
    // With several containers of the service nothing tells which one took its place.
    const [successor, another] = container.service === '' ? [] : await engine.listContainers({ labels });
    if (!successor || another) throw error;
    return { ...container, id: successor.id, name: successor.name };
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
    if (signal?.aborted) throw error;
    throw new LifeboatError('HOOK_FAILED', `lifeboat.exec.${which} in ${container.name} failed`, {
      cause: error,
      hint: `Try it by hand: docker exec ${container.name} ${hook.map((word) => JSON.stringify(word)).join(' ')}`,
    });
  }
}
