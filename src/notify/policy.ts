import path from 'node:path';
import type { NotifyMode } from '../plan/messages/notify-modes.ts';
import { overall, type RunEvent, type RunReport } from '../report/events.ts';
import { readJson, writeJson } from '../run/state-files.ts';
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
  /** of the state: there it remembers that the last drill failed; default: only in memory */
  directory?: string | undefined;
}

/**
 * Wraps a notifier so that it receives only the runs that the mode selects. Unless the mode is `always`, it receives
 * only drills that failed, the first good one after them, and the first of several that left the same unproven. Only a
 * delivered run counts as the last.
 */
export function withPolicy(notifier: Notifier, { mode, now = Date.now, directory }: PolicyOptions): Notifier {
  let last: LastMessage | undefined;
  const drills = createDrillMemory(notifier.name, directory);
  const concerns = async (event: RunEvent): Promise<boolean> => {
    if (event.type === 'run-finished') return shouldReport(mode, event.report, last, now());
    if (event.type !== 'drill-finished') return true;
    const { status } = event.report;
    const isGap = status === 'unproven' && !event.repeated;
    const isNews = status === 'failed' || isGap || (status === 'ok' && (await drills.hasFailed()));
    if (status === 'ok' || status === 'failed') await drills.note(status);
    return isNews || mode === 'always';
  };
  return {
    name: notifier.name,
    test: (signal) => notifier.test(signal),
    resume: (signal) => notifier.resume?.(signal),
    async handle(event, signal) {
      if (!(await concerns(event))) return;
      await notifier.handle(event, signal);
      if (event.type === 'run-finished') last = { at: now(), failed: failedSources(event.report) };
    },
    async keep(event) {
      if (await concerns(event)) await notifier.keep?.(event);
    },
  };
}

/** Remembers whether the last drill failed, because the next one may run in another process. */
function createDrillMemory(name: string, directory: string | undefined) {
  const file = directory === undefined ? undefined : path.join(directory, 'outbox', `${name}.drill.json`);
  let known: 'ok' | 'failed' | undefined;
  const read = async () =>
    file === undefined ? undefined : (await readJson<{ status: 'ok' | 'failed' }>(file))?.status;
  return {
    // The file counts: another process may have run a drill since.
    hasFailed: async () => ((await read().catch(() => undefined)) ?? known) === 'failed',
    async note(status: 'ok' | 'failed') {
      const before = (await read().catch(() => undefined)) ?? known;
      known = status;
      // Losing it costs one message.
      if (file !== undefined && before !== status) await writeJson(file, { status }).catch(() => undefined);
    },
  };
}
