import type { ErrorCode, ErrorInfo } from '../../base/errors.ts';
import { nextRun } from './schedule.ts';

/** A scheduled run that failed, or died, and is made again for what it lacks. */
export interface Retry {
  schedules: string[];
  /** ISO time at which the first try began */
  since: string;
  /** how many tries there were */
  tries: number;
  /** ISO time of the next one */
  at: string;
}

/** From the end of each try to the next one, milliseconds: within the hour of grace that a dead-man's switch commonly has. */
const DELAYS_MS = [10 * 60_000, 20 * 60_000] as const;

/** When a run that has failed for the `tries`th time is made again; undefined when its next scheduled time comes before. */
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

/** Longest that a retry can lie ahead: one further away was written by a clock that was wrong. */
const FARTHEST_MS = Math.max(...DELAYS_MS);

/** Whether its time has come. */
export function isDue({ at }: Retry, now: Date): boolean {
  const left = Date.parse(at) - now.getTime();
  return !(left > 0) || left > FARTHEST_MS;
}

/** Failures that may pass by themselves within the hour. A wrong setting, label, password or key does not. */
const PASSING: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['ENGINE_UNREACHABLE', 'ENGINE_REFUSED', 'ENGINE_PROTOCOL', 'EXEC_FAILED', 'HELPER_FAILED'] as const),
  ...(['PG_UNREACHABLE', 'PG_QUERY', 'PG_DUMP_FAILED', 'PG_DUMP_INCOMPLETE', 'PG_STALLED', 'PG_RESTARTED'] as const),
  ...(['TREE_STALLED', 'SPOOL_FULL', 'DEST_FULL', 'DEST_UNREACHABLE', 'DEST_DAMAGED', 'TOOL_FAILED'] as const),
  // Dropped, or being made again, by somebody else while it was dumped.
  'PG_DATABASE_UNKNOWN',
  // The container may be about to come back; a run of the agent was cut off by its restart.
  ...(['SOURCE_VANISHED', 'CONTAINER_STOPPED', 'LEASE_LOST', 'LOCKED', 'INTERRUPTED'] as const),
]);

/** Rights do not come by themselves. */
const FOR_GOOD = /permission denied|must be (superuser|owner)|access denied/i;

/** Whether a failure may pass by itself. */
export function mayPass({ code, message, cause }: ErrorInfo): boolean {
  return PASSING.has(code) && !FOR_GOOD.test(`${message} ${cause ?? ''}`);
}
