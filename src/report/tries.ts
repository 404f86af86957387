import { type Accepted, endsFailure } from '../plan/accepted.ts';
import type { Problem } from '../plan/model.ts';
import { mayPass, type Retry } from '../plan/values/retry.ts';
import { isCopyOk } from './copy-text.ts';
import { type CopyReport, overall, type RunReport, type RunStatus, type SourceReport } from './events.ts';

/**
 * A scheduled run that fails is repeated for the part that failed. People are notified once, after the last try, so
 * that report covers all tries.
 */

/** The results of the tries before the last one, each with the id of its run. */
export interface Earlier {
  results: SourceReport[];
  /** ids of their runs, including those without a result; absent in records of an earlier version */
  runs?: string[];
  /** problems of these runs, without those of the plan, which each try finds again */
  problems: Problem[];
  copies?: CopyReport[];
  /** the newest snapshot that one of them stored */
  snapshot?: string;
  /** sequence at the end of the chain when the last of them began that could read it */
  after?: number;
}

/** A run that will be tried again, and its results so far. */
export interface PendingRetry extends Retry {
  earlier?: Earlier;
  /** the report of its tries waits for the next one, so nobody was notified yet */
  unreported?: true;
}

/** Returns the retry without copies that the settings no longer name. `copies`: the names of the others. */
export function withoutRemovedCopies(retry: PendingRetry, copies: readonly string[]): PendingRetry {
  if (!retry.earlier?.copies) return retry;
  const { copies: before, ...earlier } = retry.earlier;
  const left = before.filter(({ name }) => copies.includes(name));
  return { ...retry, earlier: { ...earlier, ...(left.length > 0 ? { copies: left } : {}) } };
}

/** Returns whether a failure of the run, or of one of its copies, may pass by itself, see {@link mayPass}. */
export function isWorthRetry({ copies = [], ...own }: Pick<RunReport, 'results' | 'error' | 'copies'>): boolean {
  return hasPassingFailure(own) || waitingCopies(copies).length > 0;
}

/**
 * Returns whether the report of a run can wait for its retry. A failure that no retry can end is reported at once if
 * only copies are tried again.
 */
export function canWait({ results, problems, error }: Pick<RunReport, 'results' | 'problems' | 'error'>): boolean {
  return hasPassingFailure({ results, ...(error ? { error } : {}) }) || isAllOk({ results, problems, error });
}

/**
 * Returns the names of the copies that failed for a reason that may pass. An interrupted copy made room for another run
 * or command. The report of its run would wait for a retry that the next run replaces.
 */
export function waitingCopies(copies: readonly CopyReport[] = []): string[] {
  return copies.flatMap(({ name, status, error }) =>
    status !== 'ok' && error && error.code !== 'INTERRUPTED' && mayPass(error) ? [name] : [],
  );
}

function hasPassingFailure({ results, error }: Pick<RunReport, 'results' | 'error'>): boolean {
  return (
    results.some(({ status, error }) => status !== 'ok' && error !== undefined && mayPass(error)) ||
    (error !== undefined && mayPass(error))
  );
}

/**
 * Returns what the report of a later try takes over from this one. This one covers the tries `before` it.
 *
 * @param planned the problems of its plan
 */
export function earlierOf(report: RunReport, planned: readonly Problem[], before?: Earlier): Earlier {
  const known = new Set(planned.map(keyOf));
  const after = report.after ?? before?.after;
  return {
    results: report.results.map((result) => ({ ...result, run: result.run ?? report.id })),
    runs: [...(before?.runs ?? []), report.id],
    problems: report.problems.filter((problem) => !known.has(keyOf(problem))),
    ...(report.copies ? { copies: report.copies } : {}),
    ...(report.snapshot === undefined ? {} : { snapshot: report.snapshot }),
    ...(after === undefined ? {} : { after }),
  };
}

/** The facts known at the time of the report. */
interface Since {
  /** the newest result of each source, by name */
  results: Readonly<Record<string, { run: string; status: RunStatus }>>;
  /** names of the planned sources; absent if the try did not report vanished sources */
  planned?: readonly string[];
}

/**
 * Merges the report of a try with those of earlier tries. A source without a result in the try keeps its earlier one,
 * unless it is no longer planned (a vanished source is a result of the try itself), or a newer result has replaced it.
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
 * Returns whether another run has backed up the source since. A try that fails as a whole has no results and replaces
 * none. If the last try does so, no other part of its report names its sources, so their failures stay until a backup
 * succeeds.
 */
function isReplaced(
  { name, run, status }: SourceReport,
  { report, earlier, newest }: { report: RunReport; earlier: Earlier; newest: Since['results'][string] | undefined },
): boolean {
  if (newest === undefined || newest.run === run || earlier.runs?.includes(newest.run)) return false;
  return status === 'ok' || newest.status === 'ok' || !report.sources.includes(name);
}

/**
 * Returns the status that people were last notified of. A try that is followed by another one does not notify.
 *
 * @param last the last run
 */
export function previousStatus(last: RunReport | undefined): Pick<RunReport, 'previousStatus'> {
  if (!last) return {};
  if (!last.retry?.quiet) return { previousStatus: overall(last) };
  return last.previousStatus ? { previousStatus: last.previousStatus } : {};
}

type Outcome = Pick<RunReport, 'results' | 'problems' | 'copies'> & { error?: RunReport['error'] | undefined };

/**
 * Returns the status of a merged report, by the rule of a single run: `ok` only if everything requested is stored. A
 * report can lose all of its results, because other runs replaced them or a user accepted the losses.
 */
function statusOf(report: Outcome): RunStatus {
  const { results, error } = report;
  const isEmpty = results.length === 0 && error === undefined;
  if (!isEmpty && results.every(({ status }) => status === 'failed')) return 'failed';
  return isAllOk(report) ? 'ok' : 'partial';
}

function isAllOk({ results, problems, copies = [], error }: Outcome): boolean {
  return (
    error === undefined &&
    results.every(({ status }) => status === 'ok') &&
    copies.every(isCopyOk) &&
    !problems.some(({ severity }) => severity === 'error')
  );
}

/**
 * Returns the report of a run without the failures that a user has accepted since. A source that is gone has no result
 * then, and its run is ok if nothing else is wrong. The report itself if there are none.
 */
export function withoutAccepted(report: RunReport, accepted: Accepted): RunReport {
  const isOver = ({ name, error }: { name: string; error?: RunReport['error'] }) =>
    endsFailure(accepted[name], { at: report.end, after: report.after, ...(error ? { error } : {}) });
  const results = report.results.filter((result) => !isOver(result));
  const others = (report.others ?? []).filter((other) => !isOver(other));
  if (results.length === report.results.length && others.length === (report.others ?? []).length) return report;
  const { others: _, ...rest } = report;
  const left = { ...rest, results, ...(others.length > 0 ? { others } : {}) };
  return { ...left, status: statusOf(left) };
}

/** Problems that a plan finds in labels and containers, and that a user repairs without a run. */
const OF_PLAN: ReadonlySet<string> = new Set([
  ...['LABEL_UNKNOWN', 'LABEL_INVALID', 'VOLUME_UNKNOWN', 'SOURCE_DUPLICATE', 'CONTAINER_STOPPED'],
]);

/**
 * Returns the report of a run with the problems that the present plan has in place of those of its own plan. A problem
 * that is worded differently now is still one. The report itself if they are the same.
 */
export function withoutRepaired(report: RunReport, present: readonly Problem[]): RunReport {
  const now = Map.groupBy(present, keyOf);
  const problems = report.problems.flatMap((one) => {
    if (!OF_PLAN.has(one.code)) return [one];
    const same = now.get(keyOf(one)) ?? [];
    return same.find(({ message }) => message === one.message) ? [one] : same;
  });
  if (problems.length === report.problems.length && problems.every((one, i) => one === report.problems[i]))
    return report;
  // A present problem takes the place of each former one of its subject, and may be a former one itself.
  const unique = new Map(problems.map((one) => [JSON.stringify([keyOf(one), one.message]), one]));
  const left = { ...report, problems: [...unique.values()] };
  return { ...left, status: statusOf(left) };
}

function keyOf({ code, subject }: Problem): string {
  return JSON.stringify([code, subject]);
}
