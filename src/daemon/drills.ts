import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { DrillSettings } from '../plan/values/drill-settings.ts';
import { missedRun } from '../plan/values/schedule.ts';
import type { DrillReport } from '../report/drill-report.ts';
import { drillHeadline, drillLine } from '../report/drill-text.ts';

/** The part of the daemon that runs drills. */
export interface DrillingDeps {
  settings: DrillSettings;
  /** Runs a drill of all sources. Throws LOCKED while another run is under way. */
  drill(signal: AbortSignal): Promise<DrillReport>;
  /** Reports a drill that could not begin like one that failed. */
  reportUnbegun(cause: unknown): Promise<void>;
}

interface DueDeps {
  drills: DrillingDeps;
  log: Log;
  zone: string;
  now(): Date;
  /** when schedules were last served, see daemon.ts */
  served: { read(): Promise<Record<string, string>>; write(served: Record<string, string>): Promise<void> };
}

/** The keys of drills among the schedules that were served. No cron expression looks like them. */
const KEY = 'drill';
/** when a drill that ended early, or could not begin, is tried again */
const AGAIN = 'drill again';

/** since when another run keeps a drill from beginning */
const LOCKED = 'drill locked';
/** when it was reported that a drill could not begin */
const TOLD = 'drill not begun';

/** With LIFEBOAT_DRILL=every, this time after the last drill. Less than a day, so that it stays within the day. */
const EVERY_MS = 23 * 3_600_000;
/** A drill that needs more time than there is between two backups must not run all the time. */
const AGAIN_MS = 6 * 3_600_000;
/** The longest timer of Node. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Runs a drill if its time has come. A schedule that was never served counts from now on. A drill that a run prevents
 * is due again in the next minute, and one that ended early or could not begin some hours later. One that could not
 * begin is reported as failed, once for each scheduled time; so is one that runs have prevented for hours.
 *
 * @param until aborts when the daemon stops
 * @param nextBackup the drill ends early when that backup is due
 * @throws if the times cannot be saved
 */
export async function runDueDrill(deps: DueDeps, until: AbortSignal, nextBackup: Date): Promise<void> {
  const { drills, log, now, served } = deps;
  const times = await served.read();
  if (drills.settings.mode === 'off') return;
  if (times[KEY] === undefined) return served.write({ ...times, [KEY]: now().toISOString() });
  if (!isDue(deps, times)) return;
  const again = new Date(now().getTime() + AGAIN_MS).toISOString();
  // Before the drill, so that one which crashes the agent is tried again, and not at once.
  await served.write({ ...times, [KEY]: now().toISOString(), [AGAIN]: again });
  const outcome = await runDrill({ drills, log }, until, nextBackup.getTime() - now().getTime());
  const { [AGAIN]: _, [LOCKED]: __, [TOLD]: ___, ...others } = await served.read();
  if (!('unbegun' in outcome)) {
    const isEarly = outcome.report.status === 'interrupted';
    return served.write(isEarly ? { ...others, [AGAIN]: again } : others);
  }
  const since = times[LOCKED] ?? now().toISOString();
  const isLocked = hasCode(outcome.unbegun, 'LOCKED');
  if (isLocked && now().getTime() - new Date(since).getTime() < AGAIN_MS)
    return served.write({ ...others, ...times, [LOCKED]: since });
  log.error('the drill could not be run', { ...errorInfo(outcome.unbegun) });
  // A later try for the same scheduled time is not news.
  const told = times[TOLD] !== undefined && !isScheduled(deps, new Date(times[TOLD])) ? times[TOLD] : undefined;
  await served.write({ ...others, [AGAIN]: again, [TOLD]: told ?? now().toISOString() });
  if (told === undefined && !until.aborted) await drills.reportUnbegun(outcome.unbegun);
}

function isDue(deps: DueDeps, times: Readonly<Record<string, string>>): boolean {
  const again = times[AGAIN];
  if (again !== undefined && deps.now() >= new Date(again)) return true;
  return isScheduled(deps, new Date(times[KEY] as string));
}

/** Returns whether a scheduled time has come since the last one. */
function isScheduled({ drills, zone, now }: DueDeps, last: Date): boolean {
  const { mode, schedule } = drills.settings;
  if (mode === 'every') return now().getTime() - last.getTime() >= EVERY_MS;
  return missedRun(schedule, zone, last, now()) !== undefined;
}

/** Runs a drill for at most that time, milliseconds, and logs its result. `unbegun`: why it could not begin. */
async function runDrill(
  { drills, log }: Pick<DueDeps, 'drills' | 'log'>,
  until: AbortSignal,
  roomMs: number,
): Promise<{ report: DrillReport } | { unbegun: unknown }> {
  const over = new AbortController();
  const due = new LifeboatError('INTERRUPTED', 'the next backup is due', { hint: 'The drill is tried again later.' });
  const timer = setTimeout(() => over.abort(due), Math.min(roomMs, MAX_TIMER_MS));
  try {
    const report = await drills.drill(AbortSignal.any([until, over.signal]));
    const say = report.status === 'failed' ? log.error : log.info;
    say(drillHeadline(report), { drill: report.id });
    for (const result of report.results)
      (result.status === 'failed' ? log.error : log.info)(drillLine(result), { drill: report.id });
    return { report };
  } catch (error) {
    return { unbegun: error };
  } finally {
    clearTimeout(timer);
  }
}
