import type { ErrorCode, ErrorInfo } from '../../base/errors.ts';
import { nextRun } from './schedule.ts';

/** A scheduled run that failed or died, and is retried for the sources that it lacks. */
export interface Retry {
  schedules: string[];
  /** ISO time of the start of the first try */
  since: string;
  /** number of tries so far */
  tries: number;
  /** ISO time of the next try */
  at: string;
}

/**
 * Time from the end of each try to the next one, milliseconds. Together less than an hour, the usual grace time of a
 * monitor.
 */
const DELAYS_MS = [10 * 60_000, 20 * 60_000] as const;

/**
 * Returns the time of the next try after `tries` failures, or undefined if there is none before the next scheduled run.
 */
export function nextTry(
  { schedules, tries }: Pick<Retry, 'schedules' | 'tries'>,
  zone: string,
  now: Date,
): Date | undefined {
  const delay = DELAYS_MS[tries - 1];
  if (delay === undefined) return undefined;
  const at = new Date(now.getTime() + delay);
  return schedules.every((schedule) => nextRun(schedule, zone, now) > at) ? at : undefined;
}

/** A retry further in the future was recorded by a wrong clock. */
const FARTHEST_MS = Math.max(...DELAYS_MS);

/** Returns true if a retry is due. */
export function isDue({ at }: Retry, now: Date): boolean {
  const left = Date.parse(at) - now.getTime();
  return !(left > 0) || left > FARTHEST_MS;
}

/** Failures that may resolve themselves within an hour, unlike a wrong setting, label, password or key. */
const PASSING: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['ENGINE_UNREACHABLE', 'ENGINE_REFUSED', 'ENGINE_PROTOCOL', 'EXEC_FAILED', 'HELPER_FAILED'] as const),
  ...(['PG_UNREACHABLE', 'PG_QUERY', 'PG_DUMP_FAILED', 'PG_DUMP_INCOMPLETE', 'PG_STALLED', 'PG_RESTARTED'] as const),
  ...(['TREE_STALLED', 'SPOOL_FULL', 'DEST_FULL', 'DEST_UNREACHABLE', 'DEST_DAMAGED', 'TOOL_FAILED'] as const),
  // Somebody dropped or recreated the database during the dump.
  'PG_DATABASE_UNKNOWN',
  // The container may be about to start again. A restart of the agent interrupts its run.
  ...(['SOURCE_VANISHED', 'CONTAINER_STOPPED', 'LEASE_LOST', 'LOCKED', 'INTERRUPTED'] as const),
]);

/** Missing rights, which do not resolve themselves. */
const FOR_GOOD = /permission denied|must be (superuser|owner)|access denied/i;

/** Returns true if a failure may resolve itself. */
export function mayPass({ code, message, cause }: ErrorInfo): boolean {
  return PASSING.has(code) && !FOR_GOOD.test(`${message} ${cause ?? ''}`);
}
