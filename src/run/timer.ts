import { uptime } from 'node:os';

/** A clock that differs by less from the time since the host booted was corrected or read late, milliseconds. */
const TOLERANCE_MS = 5000;

/**
 * Starts to measure a run. The returned function returns the time at which the run ends, which is never before its
 * start. If the clock was set meanwhile, it is the start plus the time that passed, as the kernel counts it since the
 * boot (proc(5), /proc/uptime; that includes the time for which the host slept).
 *
 * @param start when the run began; default: now
 */
export function startTimer(now: () => Date, start: Date = now()): () => Date {
  const booted = uptime();
  return () => {
    const counted = start.getTime() + Math.round((uptime() - booted) * 1000);
    const shown = now().getTime();
    return new Date(Math.abs(shown - counted) > TOLERANCE_MS ? counted : Math.max(shown, start.getTime()));
  };
}
