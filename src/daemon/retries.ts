import type { Attempt } from '../backup/context.ts';
import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Accepted, endsFailure, isAcceptedSince } from '../plan/accepted.ts';
import type { Plan, PlannedSource } from '../plan/model.ts';
import { isDue, mayPass, nextTry } from '../plan/values/retry.ts';
import type { RunReport, SourceReport } from '../report/events.ts';
import { type PendingRetry, waitingCopies, withoutRemovedCopies } from '../report/tries.ts';
import type { LastResult } from '../run/source-status.ts';
import type { CopyState, State } from '../run/state.ts';

/**
 * Retries of failed scheduled runs, and of their copies, in the same night. The state on disk names the next try before
 * each try begins.
 */

export interface RetryDeps {
  state: Pick<State, 'retries' | 'saveRetries' | 'results' | 'accepted' | 'lastRun' | 'copies'>;
  log: Log;
  now(): Date;
  zone: string;
  /** names of the copies in the settings */
  copies: readonly string[];
}

/** One try of a scheduled run. */
export interface Try extends Attempt {
  /** Records the result: the time of the next try, or none. */
  ended(report: RunReport): Promise<void>;
  /** Restores the state from before the try. */
  cancel(): Promise<void>;
}

/**
 * Records a try before it begins, so that a try which crashes the agent is retried too. It replaces other pending
 * retries of these schedules.
 *
 * @param again the pending retry that this try serves; undefined for a run at its scheduled time
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
  const entries = (at: string | undefined, { earlier, unreported }: Pick<PendingRetry, 'earlier' | 'unreported'>) => {
    if (at === undefined) return others;
    const more = { ...(earlier ? { earlier } : {}), ...(unreported ? { unreported } : {}) };
    return [...others, { schedules: [...schedules], since, tries, at, ...more }];
  };
  const earlier = again?.earlier;
  let next = earlier;
  // A try that dies adds no results for the next one.
  await save(deps, entries(retryAt()?.toISOString(), again ?? {}));
  return {
    ...(earlier ? { earlier } : {}),
    retryAt,
    hand(on) {
      next = on;
    },
    ended: ({ retry }) =>
      save(
        deps,
        entries(retry?.at, { ...(next ? { earlier: next } : {}), ...(retry?.quiet ? { unreported: true } : {}) }),
      ),
    cancel: () => save(deps, before),
  };
}

/** A retry whose time has come. */
interface DueRetry {
  retry: PendingRetry;
  /** selects its sources */
  only(source: PlannedSource): boolean;
  /** no source is left, only copies are */
  copiesOnly?: true;
}

/**
 * Returns the retry whose time has come, or undefined. Drops a retry only when each source has a good result since, no
 * copy is behind, and nothing of its run is left to report. If nothing is planned, or the engine does not answer, the
 * try reports that.
 */
export async function dueRetry(deps: RetryDeps, plan: Plan | undefined): Promise<DueRetry | undefined> {
  const all = await retriesOf(deps);
  const retry = all.find((one) => isDue(one, deps.now()));
  if (!retry) return undefined;
  const { only, sourcesLeft, copiesLeft, reportLeft } = await openQuestions(deps, retry, plan);
  if (sourcesLeft) return { retry, only };
  if (copiesLeft || reportLeft) {
    if (waitingCopies(retry.earlier?.copies).length > 0) return { retry, only: () => false, copiesOnly: true };
    // The run was not reported yet, and nothing is wrong any more: somebody accepted a vanished source.
    return { retry, only: ({ schedule }) => retry.schedules.includes(schedule) };
  }
  await save(
    deps,
    all.filter((one) => one !== retry),
  );
  return undefined;
}

/**
 * Drops the pending retries for which nothing is left after an acceptance, and from the others the results that it
 * ends. A retry stays if it still has to report its run, unless that is the last run. Returns the report of the last
 * run if it waited for a retry that was dropped: the caller sends it.
 */
export async function endRetries(deps: RetryDeps, plan: Plan, accepted: Accepted): Promise<RunReport | undefined> {
  const [all, last] = [await retriesOf(deps), await deps.state.lastRun().catch(() => undefined)];
  const left: PendingRetry[] = [];
  let ended: RunReport | undefined;
  for (const retry of all) {
    const { sourcesLeft, copiesLeft, reportLeft } = await openQuestions(deps, retry, plan);
    const { earlier } = retry;
    const waits = last !== undefined && reportLeft && earlier?.runs?.at(-1) === last.id;
    if (!sourcesLeft && !copiesLeft && (waits || !reportLeft)) {
      if (waits) ended = last;
      continue;
    }
    const failed = { at: retry.since, after: earlier?.after };
    const isOver = ({ name, error }: SourceReport) =>
      endsFailure(accepted[name], { ...failed, ...(error ? { error } : {}) });
    const results = earlier?.results.filter((result) => !isOver(result));
    left.push(earlier && results ? { ...retry, earlier: { ...earlier, results } } : retry);
  }
  if (all.length > 0) await save(deps, left);
  return ended;
}

/**
 * Finds what a retry is for. `sourcesLeft`: whether there is a source, or anything else that a run of sources has to
 * report. `copiesLeft`: whether a copy is still behind. `reportLeft`: see {@link isReportLeft}.
 */
async function openQuestions(
  deps: RetryDeps,
  retry: PendingRetry,
  plan: Plan | undefined,
): Promise<{ only(source: PlannedSource): boolean; sourcesLeft: boolean; copiesLeft: boolean; reportLeft: boolean }> {
  // If the results cannot be read, the try covers all sources.
  const [results, accepted] = await Promise.all([
    deps.state.results().catch((): Record<string, LastResult> => ({})),
    deps.state.accepted().catch((): Accepted => ({})),
  ]);
  const since = (name: string) => {
    const result = results[name];
    return result && result.at >= retry.since ? result : undefined;
  };
  // A manual backup in the meantime counts too.
  const only = ({ name, schedule }: PlannedSource) => {
    const result = since(name);
    if (!result) return retry.schedules.includes(schedule);
    return isLacking(result) && !endsFailure(accepted[name], result);
  };
  const planned = plan?.sources ?? [];
  const lost = Object.keys(results).filter((name) => {
    if (planned.some((source) => source.name === name)) return false;
    const result = since(name);
    return result?.status === 'failed' && !isAcceptedSince(accepted[name], 'gone', result);
  });
  const copies = await deps.state.copies().catch((): Record<string, CopyState> => ({}));
  const waiting = waitingCopies(retry.earlier?.copies);
  return {
    only,
    sourcesLeft: planned.length === 0 || planned.some(only) || lost.length > 0,
    copiesLeft: waiting.some((name) => copies[name]?.behindSince !== undefined),
    reportLeft: isReportLeft(retry, { results, last: await deps.state.lastRun().catch(() => undefined) }),
  };
}

/**
 * Returns whether a run is still to be reported, although its report does not have to wait any more. If another run
 * came last, its report is enough unless this run found something wrong that no newer result has replaced.
 */
function isReportLeft(
  { unreported, earlier }: PendingRetry,
  { results, last }: { results: Record<string, LastResult>; last: RunReport | undefined },
): boolean {
  if (!unreported) return false;
  if (last?.retry?.quiet && (!earlier || earlier.runs?.at(-1) === last.id)) return true;
  if (earlier?.problems.some(({ severity }) => severity === 'error')) return true;
  return (earlier?.results ?? []).some(({ name, status, fell, run }) => {
    if (status === 'ok' && !fell) return false;
    const newest = results[name]?.run;
    return newest === undefined || newest === run || earlier?.runs?.includes(newest) === true;
  });
}

/** Returns whether a source failed, or was stored in part for a reason that may pass. */
function isLacking({ status, error }: LastResult): boolean {
  return status === 'failed' || (status === 'partial' && error !== undefined && mayPass(error));
}

/**
 * Pending retries while the spool cannot be written, by their state. A failure that was not reported must not be lost.
 */
const unsaved = new WeakMap<RetryDeps['state'], readonly PendingRetry[]>();

async function retriesOf({ state, copies }: RetryDeps): Promise<PendingRetry[]> {
  const all = unsaved.get(state) ?? (await state.retries().catch(() => []));
  return all.map((retry) => withoutRemovedCopies(retry, copies));
}

async function save({ state, log }: RetryDeps, retries: readonly PendingRetry[]): Promise<void> {
  unsaved.set(state, retries);
  try {
    await state.saveRetries(retries);
    unsaved.delete(state);
  } catch (error) {
    log.warn('the next try is only kept in memory', { ...errorInfo(error) });
  }
}
