/** A point in time to the microsecond, which is what Postgres records for each transaction. */
export interface PointInTime {
  /** the point, cut to milliseconds */
  date: Date;
  /** in UTC, as Postgres reads it: `2026-11-20 13:30:00.123456+00` */
  text: string;
}

const FORM = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,6})\d*)?)?\s?(Z|[+-]\d\d(?::?\d\d)?)$/i;

const PARTS = /(\d{1,7})\s*(s|sec|secs|seconds?|m|min|mins|minutes?|h|hours?|d|days?)(?![a-z])/gi;
const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Parses a time before now: `30s`, `-30s`, `10m`, `2h ago`, `1 hour 30 minutes ago`. Returns undefined for any other
 * text. `now`: by the clock of the host, which its containers share.
 */
export function parseTimeAgo(value: string, now: Date): PointInTime | undefined {
  const text = value
    .trim()
    .replace(/^-/, '')
    .replace(/\s+ago$/i, '');
  const parts = [...text.matchAll(PARTS)];
  if (parts.length === 0 || text.replace(PARTS, '').trim() !== '') return undefined;
  const ms = parts.reduce(
    (sum, [, count, unit = '']) => sum + Number(count) * (UNIT_MS[unit[0]!.toLowerCase()] ?? 0),
    0,
  );
  const date = new Date(now.getTime() - ms);
  return Number.isNaN(date.getTime()) || date.getTime() < 0 ? undefined : parsePointInTime(date.toISOString());
}

/** Parses a time with its zone, such as `2026-11-20 14:30:00+01`. Returns undefined for any other text. */
export function parsePointInTime(value: string): PointInTime | undefined {
  const [, day, minute, second = '00', fraction = '', zone = ''] = FORM.exec(value.trim()) ?? [];
  if (day === undefined || minute === undefined) return undefined;
  const micros = fraction.padEnd(6, '0');
  const offset = /^[+-]\d\d$/.test(zone) ? `${zone}:00` : zone.toUpperCase();
  const date = new Date(`${day}T${minute}:${second}.${micros.slice(0, 3)}${offset}`);
  if (Number.isNaN(date.getTime())) return undefined;
  const utc = date.toISOString().replace('T', ' ').replace('Z', '');
  return { date, text: `${utc}${micros.slice(3)}+00` };
}
