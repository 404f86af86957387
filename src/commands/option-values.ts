import { InvalidArgumentError } from 'commander';
import { type PointInTime, parsePointInTime } from '../plan/values/point-in-time.ts';

/** Parsers of option values. Each throws commander's InvalidArgumentError, which ends with exit status 2. */

/** `30d` or `30` → 30. */
export function days(value: string): number {
  const count = Number(/^(\d{1,5})d?$/.exec(value)?.[1] ?? 0);
  if (count > 0) return count;
  throw new InvalidArgumentError('Give a number of days, such as 30d.');
}

export function count(value: string): number {
  if (/^\d{1,2}$/.test(value)) return Number(value);
  throw new InvalidArgumentError('Give a number, such as 1.');
}

export function moment(value: string): Date {
  const time = new Date(value);
  if (/^\d{4}-\d\d-\d\dT\d\d:\d\d.*(?:Z|[+-]\d\d:?\d\d)$/.test(value) && !Number.isNaN(time.getTime())) return time;
  throw new InvalidArgumentError('Give a time with its zone, such as 2026-11-20T00:00Z.');
}

/** A time to the microsecond, or `latest`. */
export function point(value: string): PointInTime | 'latest' {
  if (value === 'latest') return value;
  const parsed = parsePointInTime(value);
  if (parsed) return parsed;
  throw new InvalidArgumentError('Give a time with its zone, such as "2026-11-20 14:30:00+01", or latest.');
}

/** `10%` → 0.1. */
export function share(value: string): number {
  const match = /^(\d{1,3}(?:\.\d+)?)%$/.exec(value);
  const percent = match ? Number(match[1]) : 0;
  if (percent > 0 && percent <= 100) return percent / 100;
  throw new InvalidArgumentError('Give a share above 0% and up to 100%.');
}

/** Collects the values of an option that may be repeated. */
export function gather(value: string, before: string[] = []): string[] {
  return [...before, value];
}

export function webAddress(value: string): URL {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url;
  throw new InvalidArgumentError('Give an http or https address.');
}

export function absolute(value: string): string {
  if (value.startsWith('/')) return value;
  throw new InvalidArgumentError('Give an absolute path inside the Lifeboat container.');
}
