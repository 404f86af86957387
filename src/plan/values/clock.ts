import { LifeboatError } from '../../base/errors.ts';

/** Clocks that are wrong: which dates cannot be right, and when nothing may go by them. Pure; times in milliseconds since 1970. */

const DAY_MS = 86_400_000;

/** Clocks of several hosts differ, and one may be put right by that much, without anybody noticing. */
const TOLERANCE_MS = 10 * 60_000;

/** No schedule that is in use leaves more time between two snapshots: quarterly ones do not. */
const LONGEST_GAP_DAYS = 100;

/** Whether a clock must have been wrong when that time was noted, or is wrong now. */
export function isFuture(time: number, now: number): boolean {
  return time > now + TOLERANCE_MS;
}

/**
 * Looks whether the clock can be right, by what the snapshots say. With a clock that is months ahead, `within` and the
 * wait before objects are deleted would mean nothing. Dates in the future say nothing of the present clock's being ahead.
 *
 * @param starts when snapshots began, in any order
 * @throws CLOCK_JUMPED
 */
export function checkClock(starts: readonly number[], now: number): void {
  const [newest, before] = starts.filter((start) => !isFuture(start, now)).toSorted((a, b) => b - a);
  if (newest === undefined) return;
  const iso = (time: number) => new Date(time).toISOString();
  const gap = (from: number, to: number) => Math.floor((to - from) / DAY_MS) > LONGEST_GAP_DAYS;
  if (gap(newest, now)) {
    throw new LifeboatError('CLOCK_JUMPED', `the newest snapshot is of ${iso(newest)}, and now is ${iso(now)}`, {
      hint: 'Look at the clock of the host. If it is right, make a backup first.',
    });
  }
  if (before !== undefined && gap(before, newest)) {
    throw new LifeboatError('CLOCK_JUMPED', `between the newest two snapshots lie more than ${LONGEST_GAP_DAYS} days`, {
      hint: 'Look at the clock of the host. If it is right, prune goes on after the next backup.',
    });
  }
}

/**
 * The sequence of the newest snapshot that is a day old for certain, in the order of the chain: only what was made before it is more than a
 * day old, whatever its own date says. One whose date is in the future, or before that of an older snapshot, is not believed.
 *
 * @param snapshots in any order
 * @returns 0 where there is none
 */
export function dayOldSequence(snapshots: readonly { sequence: number; start: number }[], now: number): number {
  let latest = Number.NEGATIVE_INFINITY;
  let found = 0;
  for (const { sequence, start } of snapshots.toSorted((a, b) => a.sequence - b.sequence)) {
    if (isFuture(start, now) || start < latest) continue;
    latest = start;
    if (start <= now - DAY_MS) found = sequence;
  }
  return found;
}
