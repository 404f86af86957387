import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { redactDeep } from '../base/redact.ts';
import { flushWithin } from '../report/dispatch.ts';
import type { RunReport } from '../report/events.ts';
import { withoutRepeated } from '../report/problem-text.ts';
import { canWait, earlierOf, isWorthRetry, previousStatus, withEarlier } from '../report/tries.ts';
import type { Run } from './begin.ts';
import type { BackupDeps, BackupRequest } from './context.ts';
import { findOthers } from './others.ts';
import { findSafe, withUnusable } from './safe.ts';

/** The end of a run, before it is reported. */
export type Ending = Pick<RunReport, 'status' | 'results' | 'problems' | 'error' | 'snapshot' | 'copies' | 'pruned'>;

/** Ends a run: saves its report and sends it to every listener. Resolves when they are done or their time is up. */
export async function finish(deps: BackupDeps, request: BackupRequest, run: Run, ending: Ending): Promise<RunReport> {
  const { start, plan, prepared, log } = run;
  log.debug('run ended', { run: start.id, status: ending.status });
  const previous = await deps.state.lastRun().catch(() => undefined);
  const next = deps.nextRun();
  const own: RunReport = {
    ...start,
    ...ending,
    ...(prepared ? { after: prepared.list.snapshots[0]?.manifest.sequence ?? 0 } : {}),
    end: run.ended().toISOString(),
    destination: deps.destination,
    logTail: run.tail(),
    ...previousStatus(previous),
    ...(next ? { nextRun: next.toISOString() } : {}),
  };
  const newest = await deps.state.results().catch(() => ({}));
  // A try that failed as a whole has not checked for vanished sources.
  const planned = plan && !ending.error ? { planned: plan.sources.map(({ name }) => name) } : {};
  const whole = withEarlier(own, request.attempt?.earlier, { results: newest, ...planned });
  const unusable = prepared?.list.damaged.length ?? 0;
  const others = withUnusable(await findOthers(deps, whole, run), unusable);
  const said = [...whole.results, ...others].map(({ error }) => error);
  const problems = withoutRepeated(whole.problems, said);
  const safe = await findSafe(deps, whole, run, request.signal);
  const results = withUnusable(whole.results, unusable);
  const ended = { ...whole, results, problems, ...(safe ? { safe } : {}), ...(others.length > 0 ? { others } : {}) };
  const report = redactDeep<RunReport>({ ...ended, ...retryOf(request, own, log) });
  request.attempt?.hand(earlierOf(report, redactDeep(plan?.problems ?? []), request.attempt.earlier));
  // Results of earlier tries stay theirs.
  await deps.state.saveLastRun(report, redactDeep(own)).catch((error: unknown) => {
    log.warn('the report of the run could not be kept', { ...errorInfo(error) });
  });
  deps.dispatcher.emit({ type: 'run-finished', report });
  await flushWithin(deps.dispatcher, request.signal);
  return report;
}

function retryOf({ attempt, signal }: BackupRequest, own: RunReport, log: Log): Pick<RunReport, 'retry'> {
  const at = isWorthRetry(own) ? attempt?.retryAt()?.toISOString() : undefined;
  if (at === undefined) return {};
  const what = own.error || own.results.some(({ status }) => status !== 'ok') ? 'sources' : 'copies';
  log.info(`failed ${what} will be tried again`, { run: own.id, at });
  // The first try reported the problems, or its report waits for a source.
  const mayWait = canWait(attempt?.earlier ? { ...own, problems: [] } : own);
  // An agent that is being stopped may not come back.
  return { retry: { at, quiet: mayWait && own.error?.code !== 'INTERRUPTED' && !signal.aborted } };
}
