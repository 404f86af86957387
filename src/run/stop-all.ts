import { setTimeout as sleep } from 'node:timers/promises';
import { onAbort } from '../base/abort.ts';
import { hasCode } from '../base/errors.ts';
import type { Engine } from '../docker/engine.ts';
import { watchStop } from '../docker/stops.ts';
import { type NeedFacts, needs, sortByNeed } from '../plan/values/needs.ts';
import type { ContainerRef } from './journal.ts';
import type { HoldDeps } from './release.ts';

/** The time beyond its timeout that the engine may take to stop a container, milliseconds. */
const STOP_MARGIN_MS = 30_000;

/** Exit status of a container that was killed, by the engine after the timeout or by somebody else. */
const KILLED = 137;

/** A container to stop, with its state before. */
export interface Stop {
  container: ContainerRef;
  facts: NeedFacts;
  startedAt: string;
  /** seconds */
  timeout: number;
}

/**
 * Stops containers and returns warnings. A container stops after those that need it, and at the same time as all
 * others. If one cannot be stopped, waits for the stops under way, then throws.
 *
 * @param signal begins no further stop
 * @param patient ends the wait for stops under way
 */
export async function stopAll(
  stops: readonly Stop[],
  deps: HoldDeps,
  signal: AbortSignal,
  patient: AbortSignal,
): Promise<string[]> {
  signal.throwIfAborted();
  const warnings: string[] = [];
  const ended = new Map<Stop, Promise<void>>();
  const needsIt = (one: Stop, other: Stop) => needs(one.facts, other.facts);
  const sorted = sortByNeed(stops, needsIt);
  const stopOne = async (one: Stop, users: readonly Promise<void>[]) => {
    await Promise.all(users);
    signal.throwIfAborted();
    const { name } = one.container;
    const exitCode = await stopRecorded(one, deps, { signal, patient });
    if (exitCode !== KILLED) return;
    warnings.push(
      `${name} did not stop within ${one.timeout} s and was killed, so its files may not be consistent; give it a longer stop_grace_period`,
    );
  };
  const begin = (one: Stop): Promise<void> => {
    // Only those that start later: containers that need each other in a circle must not wait for each other.
    const users = sorted.slice(sorted.indexOf(one) + 1).filter((other) => needsIt(other, one));
    const end = ended.get(one) ?? stopOne(one, users.map(begin));
    ended.set(one, end);
    return end;
  };
  for (const one of sorted) begin(one);
  const results = await Promise.allSettled(ended.values());
  for (const result of results) if (result.status === 'rejected') throw result.reason;
  signal.throwIfAborted();
  return warnings;
}

async function stopRecorded(
  { container, startedAt, timeout }: Stop,
  deps: HoldDeps,
  { signal, patient }: { signal: AbortSignal; patient: AbortSignal },
): Promise<number> {
  const now = () => new Date().toISOString();
  const watch = await watchStop(deps.engine, { id: container.id, at: now(), timeout, startedAt });
  if (signal.aborted) await watch.end();
  signal.throwIfAborted();
  const at = now();
  const until = new Date(Date.now() + timeout * 1000 + STOP_MARGIN_MS).toISOString();
  const entry = { type: 'stop', container, startedAt, at, timeout, until } as const;
  deps.record(entry);
  deps.log.info('stopping a container', { container: container.name });
  const [stopped] = await Promise.allSettled([stopThrough(deps.engine, container.id, timeout, patient)]);
  if (await watch.end()) deps.record({ ...entry, byOthers: true });
  if (stopped.status === 'rejected') throw stopped.reason;
  return (await deps.engine.inspectContainer(container.id, { signal: patient })).exitCode;
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

/** Returns a signal that aborts `ms` milliseconds after another one, or after this call if that one has aborted. */
export function later(signal: AbortSignal, ms: number): { signal: AbortSignal; clear(): void } {
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const wait = () => {
    timer = setTimeout(() => late.abort(signal.reason), ms);
  };
  const forget = onAbort(signal, wait);
  return {
    signal: late.signal,
    clear() {
      clearTimeout(timer);
      forget();
    },
  };
}
