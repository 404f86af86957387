import type { Attempt } from '../backup/context.ts';
import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Accepted, acceptedTime } from '../plan/accepted.ts';
import type { Plan, PlannedSource } from '../plan/model.ts';
import { isDue, mayPass, nextTry } from '../plan/values/retry.ts';
import type { RunReport } from '../report/events.ts';
import type { Earlier, PendingRetry } from '../report/tries.ts';
import type { LastResult } from '../run/source-status.ts';
import type { State } from '../run/state.ts';

/** Scheduled runs that failed are made again in the same night. What is to be tried is on the disk before each try. */

export interface RetryDeps {
  state: Pick<State, 'retries' | 'saveRetries' | 'results' | 'accepted' | 'lastRun'>;
  log: Log;
  now(): Date;
  zone: string;
}

/** One try of a scheduled run. */
export interface Try extends Attempt {
  /** Notes what becomes of it: nothing to be tried again, or when. */
  ended(report: RunReport): Promise<void>;
  /** As if it had not begun. */
  cancel(): Promise<void>;
}

/**
 * Notes a try as begun, before it begins: one that the agent does not survive is made again too. It takes the place of what
 * else was to be tried of these schedules. `again`: the retry that this is; undefined for a run at its time.
 */
export async function beginTry(deps: RetryDeps, schedules: readonly string[], again?: PendingRetry): Promise<Try> {
  const before = await retriesOf(deps);
  const others = before.flatMap((one) => {
    const left = one.schedules.filter((schedule) => !schedules.includes(schedule));
    return left.length > 0 ? [{ ...one, schedules: left }] : [];
  });
  const tries = (again?.tries ?? 0) + 1;
  const since = again?.since ?? deps.now().toISOString();
  const retryAt = () => nextTry({ schedules: [...schedules], tries }, deps.zone, deps.now());
  const entries = (at: string | undefined, earlier: Earlier | undefined) =>
    at === undefined
      ? others
      : [...others, { schedules: [...schedules], since, tries, at, ...(earlier ? { earlier } : {}) }];
  const earlier = again?.earlier;
  let next = earlier;
  // One that dies adds nothing to what the next one covers.
  await save(deps, entries(retryAt()?.toISOString(), earlier));
  return {
    ...(earlier ? { earlier } : {}),
    retryAt,
    hand(on) {
      next = on;
    },
    ended: ({ retry }) => save(deps, entries(retry?.at, next)),
    cancel: () => save(deps, before),
  };
}

/**
 * The retry whose time has come, and the sources that it lacks; undefined when there is none. One is dropped only when each
 * source has a good result since. Nothing planned, or an engine that does not answer, is a failure that the try reports.
 */
export async function dueRetry(
  deps: RetryDeps,
  plan: Plan | undefined,
): Promise<{ retry: PendingRetry; only(source: PlannedSource): boolean } | undefined> {
  const all = await retriesOf(deps);
  const retry = all.find((one) => isDue(one, deps.now()));
  if (!retry) return undefined;
  // Without what is remembered of the sources, all are tried.
  const [results, accepted] = await Promise.all([
    deps.state.results().catch((): Record<string, LastResult> => ({})),
    deps.state.accepted().catch((): Accepted => ({})),
  ]);
  const since = (name: string) => {
    const result = results[name];
    return result && result.at >= retry.since ? result : undefined;
  };
  // Backed up meanwhile by hand counts as well.
  const only = ({ name, schedule }: PlannedSource) => {
    const result = since(name);
    return result ? isLacking(result) : retry.schedules.includes(schedule);
  };
  const planned = plan?.sources ?? [];
  const lost = Object.keys(results).filter((name) => {
    if (planned.some((source) => source.name === name)) return false;
    return since(name)?.status === 'failed' && !((acceptedTime(accepted[name]) ?? '') > retry.since);
  });
  if (planned.length === 0 || planned.some(only) || lost.length > 0) return { retry, only };
  const last = await deps.state.lastRun().catch(() => undefined);
  // Nobody has heard of the run yet, and nothing is wrong any more: a source that had vanished was accepted.
  if (last?.retry?.quiet) return { retry, only: ({ schedule }) => retry.schedules.includes(schedule) };
  await save(
    deps,
    all.filter((one) => one !== retry),
  );
  return undefined;
}

/** Of a source that was stored in part, a reason that may pass. */
function isLacking({ status, error }: LastResult): boolean {
  return status === 'failed' || (status === 'partial' && error !== undefined && mayPass(error));
}

/** What is to be tried again while the spool cannot be written, by its state: nobody has heard of a quiet failure. */
const unsaved = new WeakMap<RetryDeps['state'], readonly PendingRetry[]>();

async function retriesOf({ state }: RetryDeps): Promise<PendingRetry[]> {
  const kept = unsaved.get(state);
  return kept ? [...kept] : state.retries().catch(() => []);
}

async function save({ state, log }: RetryDeps, retries: readonly PendingRetry[]): Promise<void> {
  unsaved.set(state, retries);
  try {
    await state.saveRetries(retries);
    unsaved.delete(state);
  } catch (error) {
    log.warn('what is to be tried again is only kept in memory', { ...errorInfo(error) });
  }
}
