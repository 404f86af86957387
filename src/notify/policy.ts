import type { NotifyMode } from '../plan/messages/notify-modes.ts';
import { overall, type RunEvent, type RunReport } from '../report/events.ts';
import type { Notifier } from './notifier.ts';

/**
 * In mode `change`, a failure that continues is reported again after this time. Milliseconds. Less than a day, because
 * the run of the next night may end earlier.
 */
export const REMIND_AFTER = 23 * 60 * 60 * 1_000;

/** The last message that this process delivered. */
interface LastMessage {
  /** ms since 1970 */
  at: number;
  /** names of the failed sources, see {@link failedSources} */
  failed: string;
}

/**
 * Returns whether a run is reported. A failed run that will be tried again never is, see {@link RunReport.retry}. A run
 * that found a loss of data always is, and a day after the last message it is reported again until a user accepts the
 * loss. Otherwise, by mode:
 * - `always`: every run.
 * - `failure`: every run that is not ok, and the first one that is ok after it.
 * - `change`: a run whose status differs from that of the previous run, and the first run. While the status is not ok,
 *   also a run in which other sources fail than in the last message, a run a day after that message, and the first run
 *   of a process. In mode `failure`, the latter three also apply to a run that is ok while a source that was not part
 *   of it is not.
 */
export function shouldReport(mode: NotifyMode, report: RunReport, last: LastMessage | undefined, now: number): boolean {
  if (report.retry?.quiet) return false;
  if (mode === 'always') return true;
  // A run that lost most of its data is still ok, with a warning.
  if (report.results.some(({ fell }) => fell && fell.at === undefined)) return true;
  if (mode === 'failure' && report.status !== 'ok') return true;
  const state = overall(report);
  // Nobody has accepted an earlier loss yet.
  if (report.results.some(({ fell }) => fell) && isTimeToRemind(last, now)) return true;
  const { previousStatus: before } = report;
  if (state === 'ok') return before === undefined ? mode === 'change' : before !== 'ok';
  if (mode === 'change' && report.status !== 'ok' && state !== report.previousStatus) return true;
  return last?.failed !== failedSources(report) || isTimeToRemind(last, now);
}

function isTimeToRemind(last: LastMessage | undefined, now: number): boolean {
  return last === undefined || now - last.at >= REMIND_AFTER;
}

/** Returns the names of the sources and copies that are not ok after a run, as one comparable text. */
export function failedSources({ results, others = [], copies = [] }: RunReport): string {
  const failed = [...results, ...copies].filter(({ status }) => status !== 'ok');
  return JSON.stringify([...failed, ...others].map(({ name }) => name).sort());
}

/**
 * Wraps a notifier so that it receives only the runs that the mode selects. Unless the mode is `always`, it receives
 * only drills that failed, and the first of several that left the same unproven. Only a delivered message counts as the
 * last.
 */
export function withPolicy(notifier: Notifier, mode: NotifyMode, now: () => number = Date.now): Notifier {
  let last: LastMessage | undefined;
  return {
    name: notifier.name,
    test: (signal) => notifier.test(signal),
    async handle(event, signal) {
      if (event.type === 'drill-finished' && mode !== 'always' && !isDrillNews(event)) return;
      if (event.type !== 'run-finished') return notifier.handle(event, signal);
      if (!shouldReport(mode, event.report, last, now())) return;
      await notifier.handle(event, signal);
      last = { at: now(), failed: failedSources(event.report) };
    },
  };
}

/** Returns whether a drill needs a person who does not know it yet. */
function isDrillNews({ report, repeated }: Extract<RunEvent, { type: 'drill-finished' }>): boolean {
  return report.status === 'failed' || (report.status === 'unproven' && !repeated);
}
