import { uptime } from 'node:os';

/** A smaller difference between the clock and the time since the boot is a correction or a late read, milliseconds. */
const TOLERANCE_MS = 5000;

/**
 * Starts to measure a run. The returned function returns the end time of the run, which is never before its start. If
 * the clock was set meanwhile, the end is the start plus the time that has passed by the kernel's count since the boot.
 * That count includes the time for which the host slept (proc(5), /proc/uptime).
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
