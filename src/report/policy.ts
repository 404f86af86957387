import { overall, type RunReport } from './events.ts';
import type { Notifier } from './notifier.ts';

/** The values of LIFEBOAT_NOTIFY, which governs messages to people; pings to a dead-man's switch are always sent. */
const NOTIFY_MODES = ['always', 'failure', 'change'] as const;
export type NotifyMode = (typeof NOTIFY_MODES)[number];

/** A failure that goes on is told again after this time (milliseconds), in mode `change`. */
export const REMIND_AFTER = 24 * 60 * 60 * 1_000;

/** What was told last by this process. */
interface Told {
  /** ms since 1970 */
  at: number;
  /** names of the sources that had failed, see {@link failedSources} */
  failed: string;
}

/**
 * Whether a run is told. In no mode: one that failed and is tried again, see {@link RunReport.retry}.
 * - `always`: every run. In every mode: a run in which a source suddenly is much smaller.
 * - `failure`: every run that is not ok.
 * - `change`: a run whose status differs from its predecessor's (the first run too); and while not all is well, when other
 *   sources fail than were last told, or a day after the last message. Without a memory (a new process) it is told.
 * The last holds in `failure` too for a run that is ok while a source that it left out is not.
 */
export function shouldTell(mode: NotifyMode, report: RunReport, told: Told | undefined, now: number): boolean {
  if (report.retry?.quiet) return false;
  if (mode === 'always') return true;
  // Data that suddenly is nearly gone is stored all the same, as a run that is ok with a warning.
  if (report.results.some(({ fell }) => fell)) return true;
  if (mode === 'failure' && report.status !== 'ok') return true;
  const state = overall(report);
  if (state === 'ok') return mode === 'change' && state !== report.previousStatus;
  if (mode === 'change' && report.status !== 'ok' && state !== report.previousStatus) return true;
  return told === undefined || told.failed !== failedSources(report) || now - told.at >= REMIND_AFTER;
}

/** The names of the sources and copies that are not well after a run, as one comparable text. */
export function failedSources({ results, others = [], copies = [] }: RunReport): string {
  const failed = [...results, ...copies].filter(({ status }) => status !== 'ok');
  return JSON.stringify([...failed, ...others].map(({ name }) => name).sort());
}

/** The notifier, hearing only of the runs that the mode lets through. A message counts as told once it was delivered. */
export function withPolicy(notifier: Notifier, mode: NotifyMode, now: () => number = Date.now): Notifier {
  let told: Told | undefined;
  return {
    name: notifier.name,
    test: (signal) => notifier.test(signal),
    async handle(event, signal) {
      if (event.type !== 'run-finished') return notifier.handle(event, signal);
      if (!shouldTell(mode, event.report, told, now())) return;
      await notifier.handle(event, signal);
      told = { at: now(), failed: failedSources(event.report) };
    },
  };
}
