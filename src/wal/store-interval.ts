/** The time between two stores of WAL: the default, and the longest one, milliseconds. */
const DEFAULT_MS = 10_000;
/** A target for lost data that is longer than this says nothing about the interval, milliseconds. */
const LONG_MS = 60 * 60_000;

/**
 * Returns how often the newest part of the WAL is stored, milliseconds: twice in the time that may be lost, so that the
 * target is met while one part is on its way.
 *
 * @param rpoMs the target of the source, milliseconds; absent: it has none
 */
export function storeIntervalMs(rpoMs: number | undefined): number {
  return rpoMs === undefined || rpoMs > LONG_MS ? DEFAULT_MS : rpoMs / 2;
}
