import { LifeboatError } from '../base/errors.ts';
import { formatDuration } from '../report/format.ts';

/** While a host runs, its clock is corrected by less than this, milliseconds. */
const LARGEST_CORRECTION_MS = 3_600_000;

/** Returns an error if the clock was set since the watch began, else undefined. */
export type ClockWatch = () => LifeboatError | undefined;

/**
 * Compares the clock with the monotonic time from now on. If the clock was set by more than an hour, the ages of the
 * snapshots are in doubt, so nothing may be removed.
 *
 * @returns a function that returns the error, CLOCK_JUMPED
 */
export function watchClock(now: () => Date): ClockWatch {
  const offset = () => now().getTime() - performance.now();
  const before = offset();
  return () => {
    const jump = offset() - before;
    if (Math.abs(jump) < LARGEST_CORRECTION_MS) return undefined;
    return new LifeboatError(
      'CLOCK_JUMPED',
      `the clock was set ${jump > 0 ? 'ahead' : 'back'} by ${formatDuration(Math.abs(jump))} during the run, so no old snapshots were removed`,
      {
        hint: 'Check the clock of the host. If the host slept during the run, the clock is right, and the next run removes them.',
      },
    );
  };
}
