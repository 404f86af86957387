import { errorInfo } from './errors.ts';
import type { Log } from './log.ts';
import { acceptedTime } from './plan/accepted.ts';
import type { Plan, PlannedSource } from './plan/model.ts';
import { isDue, nextTry, type Retry } from './plan/retry.ts';
import type { RunReport } from './report/events.ts';
import type { State } from './state.ts';

/** Scheduled runs that failed are made again in the same night. What is to be tried is on the disk before each try. */

export interface RetryDeps {
  state: Pick<State, 'retries' | 'saveRetries' | 'results' | 'accepted'>;
  log: Log;
  now(): Date;
  zone: string;
}

/** One try of a scheduled run. */
export interface Try {
  /** for {@link BackupRequest.retryAt} */
  retryAt(): Date | undefined;
  /** Notes what becomes of it: nothing to be tried again, or when. */
  ended(report: RunReport): Promise<void>;
  /** As if it had not begun. */
  cancel(): Promise<void>;
}

/**
 * Notes a try as begun, before it begins: one that the agent does not survive is made again too. It takes the place of what
 * else was to be tried of these schedules. `again`: the retry that this is; undefined for a run at its time.
 */
export async function beginTry(deps: RetryDeps, schedules: readonly string[], again?: Retry): Promise<Try> {
  const before = await retriesOf(deps);
  const others = before.flatMap((one) => {
    const left = one.schedules.filter((schedule) => !schedules.includes(schedule));
    return left.length > 0 ? [{ ...one, schedules: left }] : [];
  });
  const tries = (again?.tries ?? 0) + 1;
  const since = again?.since ?? deps.now().toISOString();
  const retryAt = () => nextTry({ schedules: [...schedules], tries }, deps.zone, deps.now());
  const entries = (at: string | undefined) =>
    at === undefined ? others : [...others, { schedules: [...schedules], since, tries, at }];
  await save(deps, entries(retryAt()?.toISOString()));
  return {
    retryAt,
    ended: ({ retry }) => save(deps, entries(retry?.at)),
    cancel: () => save(deps, before),
  };
}

/** The retry whose time has come, and the sources that it lacks; undefined when there is none. One that lacks none is over. */
export async function dueRetry(
  deps: RetryDeps,
  plan: Plan | undefined,
): Promise<{ retry: Retry; only(source: PlannedSource): boolean } | undefined> {
  const all = await retriesOf(deps);
  const retry = all.find((one) => isDue(one, deps.now()));
  if (!retry || !plan) return undefined;
  const [results, accepted] = await Promise.all([deps.state.results(), deps.state.accepted()]);
  const since = (name: string) => {
    const result = results[name];
    return result && result.at >= retry.since ? result.status : undefined;
  };
  // Backed up meanwhile by hand counts as well.
  const only = ({ name, schedule }: PlannedSource) =>
    since(name) === 'failed' || (retry.schedules.includes(schedule) && since(name) === undefined);
  const vanished = Object.keys(results).filter((name) => {
    const isPlanned = plan.sources.some((source) => source.name === name);
    return !isPlanned && since(name) === 'failed' && !((acceptedTime(accepted[name]) ?? '') > retry.since);
  });
  if (plan.sources.some(only) || vanished.length > 0) return { retry, only };
  await save(
    deps,
    all.filter((one) => one !== retry),
  );
  return undefined;
}

async function retriesOf({ state }: RetryDeps): Promise<Retry[]> {
  return state.retries().catch(() => []);
}

async function save({ state, log }: RetryDeps, retries: readonly Retry[]): Promise<void> {
  await state.saveRetries(retries).catch((error: unknown) => {
    log.warn('what is to be tried again cannot be remembered', { ...errorInfo(error) });
  });
}
