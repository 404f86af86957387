import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { BackupRequest } from '../backup/context.ts';
import { aborted } from '../base/abort.ts';
import { errorInfo, hasCode } from '../base/errors.ts';
import type { Plan, PlannedSource } from '../plan/model.ts';
import { missedRun, nextRun } from '../plan/values/schedule.ts';
import type { RunReport } from '../report/events.ts';
import type { Trigger } from '../report/trigger.ts';
import { openJournals } from '../run/journal.ts';
import type { State } from '../run/state.ts';
import { type DrillingDeps, runDueDrill } from './drills.ts';
import { createRunLogger } from './log-runs.ts';
import { refreshPlan } from './refresh-plan.ts';
import { beginTry, dueRetry, type Try } from './retries.ts';
import { type StopOthersDeps, stopOthers } from './stop-others.ts';

export interface DaemonDeps extends StopOthersDeps {
  state: State;
  now(): Date;
  zone: string;
  /** names of the copies in the settings */
  copies: readonly string[];
  /** the schedule of LIFEBOAT_SCHEDULE, used when no source is planned */
  schedule: string;
  journals: string;
  /** a file that the daemon touches while it is alive, for the container's health check */
  aliveFile: string;
  plan(): Promise<Plan>;
  backup(request: BackupRequest): Promise<RunReport>;
  /** cleans up after dead runs, if no other run is under way */
  recover(): Promise<void>;
  /** the time between attempts to undo a dead run, milliseconds; default {@link RECOVER_AGAIN_MS} */
  recoverAgainMs?: number;
  /** receives WAL of the sources in the plan; absent in tests */
  receivers?: { update(plan: Plan): Promise<void>; stop(): Promise<void> };
  /** those of the receivers and watches; absent in tests */
  alarms?: { flush(): Promise<void> };
  /** look at the plan each minute, such as the watch of targets; they never reject */
  watches?: readonly { check(plan: Plan): Promise<void> }[];
  /** runs drills; absent in tests of backups */
  drills?: DrillingDeps;
  /** calls back when containers change, and after a lost connection to the engine is open again */
  watch(onChange: () => Promise<void>, signal: AbortSignal): Promise<void>;
  /** calls `tick` at every full minute until the returned function is called; `tick` never rejects */
  everyMinute(tick: () => Promise<void>): () => void;
}

const ALIVE_INTERVAL_MS = 30_000;

/** The time between attempts to undo a dead run, milliseconds. */
const RECOVER_AGAIN_MS = 5000;
/** After this many attempts in a row, the cause is likely to last, and one attempt a minute is enough. */
const MAX_LOOKS = 20;

/** A run that begins later than this after its scheduled time counts as missed, milliseconds. */
const LATE_MS = 90_000;

/**
 * Runs the agent: discover → plan → wait → run. When the signal aborts, ends the run under way cleanly and resolves.
 */
export async function daemon(deps: DaemonDeps, signal: AbortSignal): Promise<void> {
  const { log } = deps;
  const served = servedTimes(deps);
  let plan: Plan | undefined;
  let running: Promise<void> | undefined;
  let soon: NodeJS.Timeout | undefined;
  let looks = 0;

  const replan = async () => {
    plan = await refreshPlan(deps, plan);
    if (plan) void deps.receivers?.update(plan);
  };
  const logRun = createRunLogger(deps);
  const tick = () => {
    for (const watch of deps.watches ?? []) if (plan) void watch.check(plan);
    running ??= serve()
      .catch((error: unknown) => log.error('a scheduled run could not be started', { ...errorInfo(error) }))
      .then(logRun)
      .finally(async () => {
        running = undefined;
        await lookSoon();
      });
    return running;
  };
  // Somebody may be waiting for a container that is still held.
  const lookSoon = async () => {
    clearTimeout(soon);
    const left = await openJournals(deps.journals).catch(() => []);
    looks = left.length > 0 ? looks + 1 : 0;
    if (left.length > 0 && looks <= MAX_LOOKS && !signal.aborted)
      soon = setTimeout(tick, deps.recoverAgainMs ?? RECOVER_AGAIN_MS);
  };
  const serve = async () => {
    if ((await openJournals(deps.journals)).length > 0) await deps.recover();
    const due = await dueSchedules(deps, served, plan);
    if (signal.aborted) return;
    if (due.length > 0) return runDue(deps, served, due, signal);
    if (await runAgain(deps, plan, signal)) return;
    const { drills, log, zone, now } = deps;
    const next = nextRunOf(plan, deps.schedule, zone, now());
    if (drills) await runDueDrill({ drills, log, zone, now, served }, signal, next);
  };

  await beat(deps);
  const heart = setInterval(() => void beat(deps), ALIVE_INTERVAL_MS);
  await deps.recover();
  await replan();
  logStart(deps, plan);
  await logRun();
  const stopTicking = deps.everyMinute(tick);
  const watching = deps.watch(replan, signal);
  void tick();
  await aborted(signal);
  log.info('stopping');
  stopTicking();
  for (const timer of [soon, heart]) clearTimeout(timer);
  await Promise.all([running, deps.receivers?.stop()]);
  await Promise.all([deps.alarms?.flush(), stopOthers(deps)]);
  await watching.catch(() => undefined);
}

/** When each schedule was last served (ISO time by cron expression). */
interface ServedTimes {
  read(): Promise<Record<string, string>>;
  write(served: Record<string, string>): Promise<void>;
}

/**
 * Opens the served times. If the spool cannot be written, the times stay in memory, so that the run begins and reports
 * the failure.
 */
function servedTimes({ state, log }: DaemonDeps): ServedTimes {
  let unsaved: Record<string, string> = {};
  return {
    read: async () => ({ ...(await state.served().catch(() => ({}))), ...unsaved }),
    async write(served) {
      try {
        await state.saveServed(served);
        unsaved = {};
      } catch (error) {
        unsaved = served;
        log.warn('the time of the run cannot be remembered', { ...errorInfo(error) });
      }
    },
  };
}

interface Due {
  schedule: string;
  /** its scheduled time */
  at: Date;
}

/**
 * Returns the schedules whose time has come since they were last served. A schedule that was never served counts from
 * now on, because a new installation has missed no run.
 */
async function dueSchedules(deps: DaemonDeps, times: ServedTimes, plan: Plan | undefined): Promise<Due[]> {
  const now = deps.now();
  const served = await times.read();
  const schedules = schedulesOf(plan, deps.schedule);
  const fresh = schedules.filter((schedule) => served[schedule] === undefined);
  if (fresh.length > 0) {
    for (const schedule of fresh) served[schedule] = now.toISOString();
    await times.write(served);
  }
  return schedules.flatMap((schedule) => {
    const at = missedRun(schedule, deps.zone, new Date(served[schedule] as string), now);
    return at === undefined ? [] : [{ schedule, at }];
  });
}

async function runDue(deps: DaemonDeps, times: ServedTimes, due: Due[], signal: AbortSignal): Promise<void> {
  const now = deps.now();
  const missed = due.every(({ at }) => now.getTime() - at.getTime() > LATE_MS);
  const trigger: Trigger = missed ? 'catch-up' : 'schedule';
  const begun = () => {
    if (missed)
      deps.log.warn('catching up on a run that was missed', { missed: due.map(({ at }) => at.toISOString()) });
  };
  const schedules = new Set(due.map(({ schedule }) => schedule));
  const before = await times.read();
  // At any time, the try or the schedule is still to come: a kill must not lose the run.
  const attempt = await beginTry(deps, [...schedules]);
  // Before the run, so that a run which crashes the agent is not started again and again.
  await times.write({
    ...before,
    ...Object.fromEntries(due.map(({ schedule }) => [schedule, now.toISOString()])),
  });
  const request = { trigger, only: (source: PlannedSource) => schedules.has(source.schedule), begun, signal };
  if (await isMade(deps, attempt, request)) return;
  if (!signal.aborted) deps.log.info('another run is under way; the scheduled one follows it');
  await times.write(before);
  await attempt.cancel();
}

/** Retries a failed run for the sources that failed, or for the copies alone. Resolves to false if nothing is due. */
async function runAgain(deps: DaemonDeps, plan: Plan | undefined, signal: AbortSignal): Promise<boolean> {
  const due = await dueRetry(deps, plan);
  if (!due) return false;
  const { retry, ...what } = due;
  const attempt = await beginTry(deps, retry.schedules, retry);
  const begun = () =>
    deps.log.info(`trying failed ${what.copiesOnly ? 'copies' : 'sources'} again`, {
      since: retry.since,
      try: retry.tries + 1,
    });
  if (!(await isMade(deps, attempt, { trigger: 'catch-up', ...what, begun, signal }))) await attempt.cancel();
  return true;
}

/** Makes a try. Resolves to false if another run is under way, or if the daemon stops before it begins. */
async function isMade(deps: DaemonDeps, attempt: Try, request: BackupRequest): Promise<boolean> {
  try {
    await attempt.ended(await deps.backup({ ...request, attempt }));
    return true;
  } catch (error) {
    if (!hasCode(error, 'INTERRUPTED', 'LOCKED')) throw error;
    return false;
  }
}

/**
 * Returns the distinct schedules of the plan. Without any source, the fallback's run reports that nothing is planned.
 */
export function schedulesOf(plan: Plan | undefined, fallback: string): string[] {
  const schedules = [...new Set((plan?.sources ?? []).map((source) => source.schedule))];
  return schedules.length > 0 ? schedules : [fallback];
}

/** Returns the time of the next run of any schedule. */
export function nextRunOf(plan: Plan | undefined, fallback: string, zone: string, now: Date): Date {
  const times = schedulesOf(plan, fallback).map((schedule) => nextRun(schedule, zone, now));
  return times.reduce((first, time) => (time < first ? time : first));
}

function logStart(deps: DaemonDeps, plan: Plan | undefined): void {
  const next = nextRunOf(plan, deps.schedule, deps.zone, deps.now());
  deps.log.info('ready', {
    sources: plan?.sources.map(({ name }) => name) ?? [],
    nextRun: next.toISOString(),
    zone: deps.zone,
  });
}

async function beat({ aliveFile, log }: DaemonDeps): Promise<void> {
  try {
    await mkdir(path.dirname(aliveFile), { recursive: true });
    await writeFile(aliveFile, '');
  } catch (error) {
    log.warn('the health check cannot be answered', { ...errorInfo(error) });
  }
}
