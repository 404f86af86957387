import type { Problem } from '../plan/model.ts';
import { mayPass, type Retry } from '../plan/values/retry.ts';
import { type CopyReport, overall, type RunReport, type RunStatus, type SourceReport } from './events.ts';

/**
 * A scheduled run that fails is made again for what it lacks. People hear of it once, at the end of its last try, so that
 * report covers all tries.
 */

/** What the tries before the last one came to, each result with the id of its run. */
export interface Earlier {
  results: SourceReport[];
  /** ids of their runs, also of one without a result of its own; absent in what an earlier version wrote */
  runs?: string[];
  /** what these runs met themselves: the plan's own problems are found again by each try */
  problems: Problem[];
  copies?: CopyReport[];
  /** the newest snapshot that one of them stored */
  snapshot?: string;
}

/** A run that is to be made again, and what it came to so far. */
export interface PendingRetry extends Retry {
  earlier?: Earlier;
}

/** Whether something that is not well after a run may pass by itself, see {@link mayPass}. */
export function isWorthRetry({ results, error }: Pick<RunReport, 'results' | 'error'>): boolean {
  return (
    results.some(({ status, error }) => status !== 'ok' && error !== undefined && mayPass(error)) ||
    (error !== undefined && mayPass(error))
  );
}

/**
 * What the report of a later try takes over of this one, which covers those `before` it too. `planned`: the problems of its
 * plan.
 */
export function earlierOf(report: RunReport, planned: readonly Problem[], before?: Earlier): Earlier {
  const known = new Set(planned.map(keyOf));
  return {
    results: report.results.map((result) => ({ ...result, run: result.run ?? report.id })),
    runs: [...(before?.runs ?? []), report.id],
    problems: report.problems.filter((problem) => !known.has(keyOf(problem))),
    ...(report.copies ? { copies: report.copies } : {}),
    ...(report.snapshot === undefined ? {} : { snapshot: report.snapshot }),
  };
}

/** What is known now. */
interface Since {
  /** the newest result of each source, by name */
  results: Readonly<Record<string, { run: string; status: RunStatus }>>;
  /** names of the sources that are planned; absent where the try did not report those that vanished */
  planned?: readonly string[];
}

/**
 * Returns the report of a try and of those before it, as one. A source without a result in the try keeps its earlier result,
 * unless it is no longer planned (the try itself has a result of a source that vanished), or has a newer result.
 */
export function withEarlier(report: RunReport, earlier: Earlier | undefined, since: Since): RunReport {
  if (!earlier) return report;
  const names = new Set(report.results.map(({ name }) => name));
  const kept = earlier.results.filter(
    (result) =>
      !names.has(result.name) &&
      since.planned?.includes(result.name) !== false &&
      !isReplaced(result, { report, earlier, newest: since.results[result.name] }),
  );
  const found = new Set(report.problems.map(keyOf));
  const problems = [...report.problems, ...earlier.problems.filter((problem) => !found.has(keyOf(problem)))];
  const copies = report.copies ?? earlier.copies;
  const snapshot = report.snapshot ?? earlier.snapshot;
  const whole = {
    ...report,
    results: [...kept, ...report.results],
    problems,
    ...(copies ? { copies } : {}),
    ...(snapshot === undefined ? {} : { snapshot }),
  };
  return { ...whole, status: statusOf(whole) };
}

/**
 * Whether another run has had the source since. A try that fails as a whole has no results, and replaces none. When the last
 * one does so, no other part of its report names its sources: a failure of theirs stays until one is backed up.
 */
function isReplaced(
  { name, run, status }: SourceReport,
  { report, earlier, newest }: { report: RunReport; earlier: Earlier; newest: Since['results'][string] | undefined },
): boolean {
  if (newest === undefined || newest.run === run || earlier.runs?.includes(newest.run)) return false;
  return status === 'ok' || newest.status === 'ok' || !report.sources.includes(name);
}

/** How things stood when people last heard of it: of a try that is to be made again they did not. `last`: the last run. */
export function previousStatus(last: RunReport | undefined): Pick<RunReport, 'previousStatus'> {
  if (!last) return {};
  if (!last.retry?.quiet) return { previousStatus: overall(last) };
  return last.previousStatus ? { previousStatus: last.previousStatus } : {};
}

/** As a run's own status is found, see rules.ts: `ok` only when everything that was asked for is stored. */
function statusOf({ results, problems, copies = [], error }: RunReport): RunStatus {
  if (results.every(({ status }) => status === 'failed')) return 'failed';
  const isWell =
    error === undefined &&
    [...results, ...copies].every(({ status }) => status === 'ok') &&
    !problems.some(({ severity }) => severity === 'error');
  return isWell ? 'ok' : 'partial';
}

function keyOf({ code, subject, message }: Problem): string {
  return JSON.stringify([code, subject, message]);
}
