import type { Problem } from '../plan/model.ts';
import { formatDuration } from '../report/format.ts';

/** The clock of a host is corrected by less than this while it runs, milliseconds. */
const LARGEST_CORRECTION_MS = 3_600_000;

/**
 * Compares the clock with the monotonic time, from now on. The returned function reports a clock that was set while the run was under
 * way, as a warning: nobody can tell how old a snapshot is then, so the run removes none.
 */
export function watchClock(now: () => Date): (subject: string) => Problem | undefined {
  const offset = () => now().getTime() - performance.now();
  const before = offset();
  return (subject) => {
    const jump = offset() - before;
    if (Math.abs(jump) < LARGEST_CORRECTION_MS) return undefined;
    return {
      severity: 'warning',
      code: 'CLOCK_JUMPED',
      subject,
      message: `the clock was set ${jump > 0 ? 'ahead' : 'back'} by ${formatDuration(Math.abs(jump))} during the run, so no old snapshots were removed`,
      hint: 'Check the clock of the host. If the host slept during the run, the clock is right, and the next run removes them.',
    };
  };
}
