import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { DrillSettings } from '../plan/values/drill-settings.ts';
import { missedRun, previousRun } from '../plan/values/schedule.ts';
import type { DrillReport } from '../report/drill-report.ts';
import { drillHeadline, drillLine } from '../report/drill-text.ts';

/** The part of the daemon that runs drills. */
export interface DrillingDeps {
  settings: DrillSettings;
  /** Runs a drill of all sources. Throws LOCKED while another run is under way. */
  drill(signal: AbortSignal): Promise<DrillReport>;
  /** Reports a drill that could not begin like one that failed. */
  reportUnbegun(cause: unknown): Promise<void>;
  /** Returns the planned sources whose drills have all ended early since before a time. Without a drill, none has. */
  overdue(since: Date): Promise<string[]>;
  /** Returns when the last run that stored a snapshot ended. */
  stored(): Promise<Date | undefined>;
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

/** with LIFEBOAT_DRILL=every: when the newest snapshot of the last drill was stored */
const COVERED = 'drilled until';
/** how many drills have begun since the last one that ended: the others died with the agent */
const BEGUN = 'drills begun';
/** After so many deaths in a row, the next drill waits for its scheduled time. */
const MAX_DEATHS = 2;

const DAY_MS = 24 * 3_600_000;
/** A drill that needs more time than there is between two backups must not run all the time. */
const AGAIN_MS = 6 * 3_600_000;
/** The longest timer of Node. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Runs a drill if its time has come. A schedule that was never served counts from now on. A drill that a run prevents
 * is due again in the next minute, and one that ended early or could not begin some hours later. So is one that died
 * with the agent, but not again and again. One that could not begin is reported as failed, once for each scheduled
 * time; so is one that runs have prevented for hours, and a source whose drills ended early for two periods.
 *
 * @param until aborts when the daemon stops
 * @param nextBackup the drill ends early when that backup is due
 * @throws if the times cannot be saved
 */
export async function runDueDrill(deps: DueDeps, until: AbortSignal, nextBackup: Date): Promise<void> {
  const { drills, log, now, served } = deps;
  if (drills.settings.mode === 'off') return;
  const times = timesFor(drills.settings.mode, await served.read());
  if (times[KEY] === undefined) return served.write({ ...times, [KEY]: now().toISOString() });
  const scheduled = await isScheduled(deps, new Date(times[COVERED] ?? times[KEY]));
  if (!scheduled && !isAgain(deps, times)) return;
  const again = new Date(now().getTime() + AGAIN_MS).toISOString();
  const begun = String(scheduled ? 1 : Number(times[BEGUN] ?? 0) + 1);
  // Before the drill, so that one which crashes the agent is tried again, and not at once.
  const covered = drills.settings.mode === 'every' ? await drills.stored() : undefined;
  const covers = covered === undefined ? {} : { [COVERED]: covered.toISOString() };
  await served.write({ ...times, [KEY]: now().toISOString(), [AGAIN]: again, [BEGUN]: begun, ...covers });
  const outcome = await runDrill({ drills, log }, until, nextBackup.getTime() - now().getTime());
  const { [AGAIN]: _, [LOCKED]: __, [TOLD]: ___, [BEGUN]: ____, ...others } = await served.read();
  if ('report' in outcome && outcome.report.status !== 'interrupted') return served.write(others);
  const since = times[LOCKED] ?? now().toISOString();
  const isLocked = 'unbegun' in outcome && hasCode(outcome.unbegun, 'LOCKED');
  if (isLocked && now().getTime() - new Date(since).getTime() < AGAIN_MS)
    return served.write({ ...others, ...times, [LOCKED]: since });
  const failure = 'unbegun' in outcome ? outcome.unbegun : await tooOften(deps);
  // A later try for the same scheduled time is not news.
  const told = times[TOLD] !== undefined && !(await isScheduled(deps, new Date(times[TOLD]))) ? times[TOLD] : undefined;
  const tell = failure !== undefined && told === undefined && !until.aborted;
  if (failure !== undefined) log.error('the drill could not be run', { ...errorInfo(failure) });
  if (tell) await drills.reportUnbegun(failure);
  const tells = tell ? now().toISOString() : told;
  await served.write({ ...others, [AGAIN]: again, ...(tells === undefined ? {} : { [TOLD]: tells }) });
}

/** Returns the failure of sources that no drill has come to for two periods, because each of them ended early. */
async function tooOften({ drills, zone, now }: DueDeps): Promise<LifeboatError | undefined> {
  const { mode, schedule } = drills.settings;
  const last = mode === 'every' ? now() : previousRun(schedule, zone, now());
  const since =
    mode === 'every'
      ? new Date(last.getTime() - 2 * DAY_MS)
      : previousRun(schedule, zone, new Date(last.getTime() - 1));
  const names = await drills.overdue(since);
  if (names.length === 0) return undefined;
  const what = `every drill of ${names.join(', ')} has ended early since ${since.toISOString()}`;
  return new LifeboatError('DRILL_FAILED', what, {
    hint: 'Leave more time between backups, or run `lifeboat drill` with these names at a quiet time.',
  });
}

/** Returns the times that count in a mode. The traces of another mode must not make a drill due. */
function timesFor(mode: DrillSettings['mode'], all: Readonly<Record<string, string>>): Record<string, string> {
  const { [COVERED]: covered, ...times } = all;
  return mode === 'every' && covered !== undefined ? { ...times, [COVERED]: covered } : times;
}

function isAgain({ now }: DueDeps, { [AGAIN]: again, [BEGUN]: begun }: Readonly<Record<string, string>>): boolean {
  return again !== undefined && now() >= new Date(again) && Number(begun ?? 0) < MAX_DEATHS;
}

/** Returns whether a scheduled time has come since the last one. */
async function isScheduled({ drills, zone, now }: DueDeps, last: Date): Promise<boolean> {
  const { mode, schedule } = drills.settings;
  if (mode !== 'every') return missedRun(schedule, zone, last, now()) !== undefined;
  // After the first backup of each day.
  const day = (at: Date) => at.toLocaleDateString('en-CA', { timeZone: zone });
  const stored = await drills.stored();
  return stored !== undefined && stored > last && day(stored) !== day(last);
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
