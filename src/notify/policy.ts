import type { NotifyMode } from '../plan/messages/notify-modes.ts';
import { overall, type RunEvent, type RunReport } from '../report/events.ts';
import { openDrillMemory } from './drill-memory.ts';
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

/** Options of {@link withPolicy}. */
interface PolicyOptions {
  mode: NotifyMode;
  now?: () => number;
  /** of the state: there it remembers which sources failed in drills; default: only in memory */
  directory?: string | undefined;
}

/**
 * Wraps a notifier so that it receives only the runs that the mode selects. Unless the mode is `always`, it receives
 * only drills that failed, the drill that ends the trouble, and the first of several that left the same unproven. Only
 * a delivered run counts as the last.
 */
export function withPolicy(notifier: Notifier, { mode, now = Date.now, directory }: PolicyOptions): Notifier {
  let last: LastMessage | undefined;
  const drills = openDrillMemory(notifier.name, directory);
  /** Returns the event with what the notifier needs to know; undefined if it does not concern it. */
  const concerning = async (event: RunEvent): Promise<RunEvent | undefined> => {
    if (event.type === 'run-finished') return shouldReport(mode, event.report, last, now()) ? event : undefined;
    if (event.type !== 'drill-finished') return event;
    const { status } = event.report;
    const { before, failing } = await drills.note(event.report);
    const isGap = status === 'unproven' && !event.repeated;
    const ended = status !== 'failed' && before.length > 0 && failing.length === 0;
    const isNews = status === 'failed' || isGap || ended;
    return isNews || mode === 'always' ? { ...event, failing, ended } : undefined;
  };
  return {
    name: notifier.name,
    test: (signal) => notifier.test(signal),
    resume: (signal) => notifier.resume?.(signal),
    async handle(event, signal) {
      const mine = await concerning(event);
      if (!mine) return;
      await notifier.handle(mine, signal);
      if (event.type === 'run-finished') last = { at: now(), failed: failedSources(event.report) };
    },
    async keep(event) {
      const mine = await concerning(event);
      return mine !== undefined && ((await notifier.keep?.(mine)) ?? false);
    },
  };
}
