/** A point in time to the microsecond, which is what Postgres records for each transaction. */
export interface PointInTime {
  /** the point, cut to milliseconds */
  date: Date;
  /** in UTC, as Postgres reads it: `2026-11-20 13:30:00.123456+00` */
  text: string;
}

const FORM = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,6})\d*)?)?\s?(Z|[+-]\d\d(?::?\d\d)?)$/i;

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
