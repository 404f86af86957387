import type { Parsed } from './fields.ts';
import { didYouMean } from './suggest.ts';

const DAY = 86_400_000;
const SECOND = 1_000;
const formats = new Map<string, Intl.DateTimeFormat>();

function formatFor(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', { timeZone: zone, timeZoneName: 'longOffset' });
    formats.set(zone, format);
  }
  return format;
}

/** Returns how far the wall clock of an IANA zone is ahead of UTC at an instant. Both in milliseconds. */
export function offsetAt(zone: string, instant: number): number {
  if (zone === 'UTC') return 0;
  const text = formatFor(zone).format(instant);
  const [, sign, hours, minutes, seconds] = /GMT([+-])(\d\d):(\d\d)(?::(\d\d))?$/.exec(text) ?? [];
  if (sign === undefined) return 0;
  const size = (Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds ?? 0);
  return (sign === '-' ? -size : size) * SECOND;
}

/**
 * Returns the instants (ms, ascending) at which the wall clock of a zone shows `wall`, a wall time written as if it
 * were UTC. There are two if the clock was set back. If the clock was set forward over the time, it is the first moment
 * after the gap.
 */
export function wallToInstants(zone: string, wall: number): number[] {
  const offsets = new Set([offsetAt(zone, wall - DAY), offsetAt(zone, wall + DAY)]);
  const candidates = [...offsets].map((offset) => wall - offset).sort((a, b) => a - b);
  const shown = candidates.filter((instant) => instant + offsetAt(zone, instant) === wall);
  return shown.length > 0 ? shown : [changeBetween(zone, candidates[0]!, candidates.at(-1)!)];
}

/** Returns the first second in `(low, high]` at which the offset differs from that at `low`, by bisection. */
function changeBetween(zone: string, low: number, high: number): number {
  const before = offsetAt(zone, low);
  let [from, to] = [low, high];
  while (to - from > SECOND) {
    const middle = from + Math.floor((to - from) / 2 / SECOND) * SECOND;
    if (offsetAt(zone, middle) === before) from = middle;
    else to = middle;
  }
  return to;
}

/**
 * Parses an IANA time zone name. Refuses abbreviations such as CEST and offsets such as +02:00, which have no daylight
 * saving.
 */
export function parseZone(text: string): Parsed<string> {
  const zone = text.trim();
  // Loading the zones takes 25 ms of processor time, which most commands would spend on the default.
  if (zone === 'UTC' || (/^[A-Za-z]/.test(zone) && isKnown(zone))) return { value: zone };
  const guess = didYouMean(zone, Intl.supportedValuesOf('timeZone'));
  return { problem: 'is not a time zone', hint: guess ?? 'write a name such as Europe/Berlin, or UTC' };
}

function isKnown(zone: string): boolean {
  try {
    formatFor(zone);
    return true;
  } catch {
    return false;
  }
}
