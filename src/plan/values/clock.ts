import { LifeboatError } from '../../base/errors.ts';

/**
 * Detects wrong clocks: dates that cannot be right, and jumps after which nothing may be removed. Times in milliseconds
 * since 1970.
 */

const DAY_MS = 86_400_000;

/** The clocks of hosts may differ by this much, milliseconds. */
const TOLERANCE_MS = 10 * 60_000;

/** No common schedule leaves more days between two snapshots: a quarterly one leaves 92. */
const LONGEST_GAP_DAYS = 100;

/** Returns true for a time in the future: a clock was wrong when the time was recorded, or is wrong now. */
export function isFuture(time: number, now: number): boolean {
  return time > now + TOLERANCE_MS;
}

/**
 * Checks the clock against the dates of snapshots. If the clock were months ahead, `within` and the wait before objects
 * are deleted would have no effect. Dates in the future do not show that the present clock is ahead.
 *
 * @param starts starts of snapshots, in any order
 * @throws CLOCK_JUMPED
 */
export function checkClock(starts: readonly number[], now: number): void {
  const [newest, before] = starts.filter((start) => !isFuture(start, now)).toSorted((a, b) => b - a);
  if (newest === undefined) return;
  const iso = (time: number) => new Date(time).toISOString();
  const gap = (from: number, to: number) => Math.floor((to - from) / DAY_MS) > LONGEST_GAP_DAYS;
  if (gap(newest, now)) {
    throw new LifeboatError(
      'CLOCK_JUMPED',
      `the newest snapshot is from ${iso(newest)}, but the clock shows ${iso(now)}`,
      {
        hint: 'Check the clock of the host. If it is right, run a backup first.',
      },
    );
  }
  if (before !== undefined && gap(before, newest)) {
    throw new LifeboatError('CLOCK_JUMPED', `the two newest snapshots are more than ${LONGEST_GAP_DAYS} days apart`, {
      hint: 'Check the clock of the host. If it is right, prunes continue after the next backup.',
    });
  }
}

/**
 * Returns the sequence of the newest snapshot that is certainly a day old. Earlier snapshots of the chain are older
 * than a day, whatever their dates are. Dates in the future, or before the date of an earlier snapshot, are ignored.
 *
 * @param snapshots in any order
 * @returns 0 if there is none
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
