import { isFuture } from '../plan/values/clock.ts';

/**
 * Wording shared by everything people read: sizes, durations, ages, times, tables. Pure: time and zone are arguments.
 */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Bytes in binary units: `512 B`, `1.4 GiB`, `212 GiB`. One decimal below 100, none above. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes) || bytes < 0) return '?';
  let unit = 0;
  let value = Math.round(bytes);
  // 1023.96 KiB would round to 1024.0 KiB, so it becomes 1.0 MiB.
  while (unit < UNITS.length - 1 && Math.round(value * 10) / 10 >= (unit === 0 ? 1024 : 1023.5)) {
    value /= 1024;
    unit++;
  }
  const digits = unit > 0 && Math.round(value * 10) / 10 < 100 ? 1 : 0;
  return `${digits === 1 ? value.toFixed(1) : formatCount(Math.round(value))} ${UNITS[unit]}`;
}

/** Two different sizes in words that differ: close sizes are counted in bytes. */
export function formatBoth(one: number, other: number): [string, string] {
  const [a, b] = [formatBytes(one), formatBytes(other)];
  if (a !== b || one === other) return [a, b];
  return [`${formatCount(one)} B`, `${formatCount(other)} B`];
}

/** Bytes per second: `214 MiB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** A count with thousands separators: `1,523,118`. */
export function formatCount(count: number): string {
  // The formats of `Intl` take 20 ms of processor time to load.
  return String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A count with its noun: `1 file`, `20,114 files`, `2 copies`. */
export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** Milliseconds as at most two units: `0s`, `41s`, `3m 12s`, `2h 5m`, `3d 4h`. */
export function formatDuration(ms: number): string {
  const s = Math.max(0, Math.round(ms / SECOND));
  const two = (big: number, bigUnit: string, small: number, smallUnit: string) =>
    small > 0 ? `${formatCount(big)}${bigUnit} ${small}${smallUnit}` : `${formatCount(big)}${bigUnit}`;
  if (s < 60) return `${s}s`;
  if (s < 3_600) return two(Math.floor(s / 60), 'm', s % 60, 's');
  if (s < 86_400) return two(Math.floor(s / 3_600), 'h', Math.floor((s % 3_600) / 60), 'm');
  return two(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3_600), 'h');
}

/** An age in words, from milliseconds: `under a minute`, `5m`, `23h`, `2 days`. */
export function formatAge(ms: number): string {
  if (ms < MINUTE) return 'under a minute';
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)}m`;
  if (ms < 2 * DAY) return `${Math.floor(ms / HOUR)}h`;
  return `${formatCount(Math.floor(ms / DAY))} days`;
}

/** The age of a moment: `just now`, `9h ago`, `2 days ago`. One that a wrong clock dated ahead is `in 20 days`. */
export function formatAgo(when: Date, now: Date): string {
  const ms = now.getTime() - when.getTime();
  if (isFuture(when.getTime(), now.getTime())) return `in ${formatAge(-ms)}`;
  return ms < MINUTE ? 'just now' : `${formatAge(ms)} ago`;
}

/** Options of {@link formatWhen}: `zone` is an IANA name, by default the process's zone (TZ). */
export interface WhenOptions {
  now: Date;
  zone?: string | undefined;
}

/**
 * A moment in local time: `today 14:05 CET`, `tomorrow 03:00 CET`, `Fri 4 Dec 03:00 CET`, `Fri 4 Dec 2027 03:00 CET`.
 */
export function formatWhen(when: Date, { now, zone }: WhenOptions): string {
  const partsOf = (moment: Date) => (zone === 'UTC' ? utcParts(moment) : localParts(moment, zone));
  const there = partsOf(when);
  const here = partsOf(now);
  const days = Math.round((there.midnight - here.midnight) / DAY);
  const near = new Map([
    [-1, 'yesterday'],
    [0, 'today'],
    [1, 'tomorrow'],
  ]).get(days);
  const year = there.year === here.year ? '' : ` ${there.year}`;
  const day = near ?? `${there.weekday} ${there.day} ${there.month}${year}`;
  return `${day} ${there.time} ${zoneName(when, zone)}`;
}

const WEEKDAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sept', 'Oct', 'Nov', 'Dec'];

/** Does what {@link localParts} does, for UTC. The formats of `Intl` take 30 ms of processor time to load. */
function utcParts(when: Date): ReturnType<typeof localParts> {
  const [year, month, day] = [when.getUTCFullYear(), when.getUTCMonth(), when.getUTCDate()];
  return {
    weekday: WEEKDAYS[when.getUTCDay()] ?? '',
    day: String(day),
    month: MONTHS[month] ?? '',
    year: String(year),
    time: when.toISOString().slice(11, 16),
    midnight: Date.UTC(year, month, day),
  };
}

function localParts(when: Date, zone: string | undefined) {
  const format = (options: Intl.DateTimeFormatOptions) =>
    Object.fromEntries(
      new Intl.DateTimeFormat('en-GB', { ...options, ...(zone === undefined ? {} : { timeZone: zone }) })
        .formatToParts(when)
        .map((part) => [part.type, part.value]),
    );
  const text = format({
    weekday: 'short',
    day: 'numeric',
    month: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  });
  const number = format({ year: 'numeric', month: 'numeric', day: 'numeric' });
  return {
    weekday: text.weekday ?? '',
    day: text.day ?? '',
    month: text.month ?? '',
    year: number.year ?? '',
    time: `${text.hour}:${text.minute}`,
    // The calendar day as if in UTC, so that a change to summer time does not affect differences in days.
    midnight: Date.UTC(Number(number.year), Number(number.month) - 1, Number(number.day)),
  };
}

/** Locales differ in which abbreviations they know (`CET` is British, `EST` American). The first that has one wins. */
const ZONE_LOCALES = ['en-GB', 'en-US', 'en-AU', 'en-IN', 'en-NZ', 'en-ZA'];

/** The zone's abbreviation at that moment (`CET`, `CEST`), else its offset (`UTC+9`). */
export function zoneName(when: Date, zone?: string): string {
  let name = 'UTC';
  if (zone === name) return name;
  for (const locale of ZONE_LOCALES) {
    const options: Intl.DateTimeFormatOptions = {
      timeZoneName: 'short',
      ...(zone === undefined ? {} : { timeZone: zone }),
    };
    const parts = new Intl.DateTimeFormat(locale, options).formatToParts(when);
    name = parts.find((part) => part.type === 'timeZoneName')?.value ?? name;
    if (!/^(GMT|UTC)[+-]/.test(name)) return name;
  }
  return name.replace(/^GMT/, 'UTC');
}

/**
 * Returns text from strangers (names, errors of other programs) as one harmless line. White space and line breaks
 * become a space. Control characters, terminal escapes and characters that change the direction of writing become `�`.
 */
export function oneLine(text: string): string {
  return text
    .replace(/[\s\u2028\u2029]+/gu, ' ')
    .replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, '�')
    .trim();
}

const WIDE =
  /^(\p{Emoji_Presentation}|\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Hangul}|[\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]|.*\ufe0f)/u;
const PLAIN = /^[\x20-\x7e]*$/;
let segmenter: Intl.Segmenter | undefined;

/** Created at first use, because creating the segmenter takes longer than anything else when Lifeboat starts. */
function graphemes(text: string): Intl.Segments {
  segmenter ??= new Intl.Segmenter('en', { granularity: 'grapheme' });
  return segmenter.segment(text);
}

/** Colour and style escapes, which take no space on a terminal. */
const STYLE = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');

/**
 * Columns of a text on a terminal: two for East Asian wide characters and emoji, none for marks, colours and controls.
 */
export function displayWidth(text: string): number {
  const bare = text.replace(STYLE, '');
  if (PLAIN.test(bare)) return bare.length;
  let width = 0;
  for (const { segment } of graphemes(bare)) width += graphemeWidth(segment);
  return width;
}

function graphemeWidth(grapheme: string): number {
  if (/^[\p{Cc}\p{Cf}\p{M}]+$/u.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}

/** Cuts a text (without colours) to at most `width` columns. A text that was cut ends in `…`. */
export function cutToWidth(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let result = '';
  let used = 0;
  for (const { segment } of graphemes(text)) {
    const next = graphemeWidth(segment);
    if (used + next > width - 1) break;
    result += segment;
    used += next;
  }
  return width > 0 ? `${result}…` : '';
}

/** Fills a text with spaces to `width` columns, at its end or (`right`) at its start. */
export function pad(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const fill = ' '.repeat(Math.max(0, width - displayWidth(text)));
  return align === 'left' ? text + fill : fill + text;
}

/** Options of {@link table}: `align` by column (default left), `indent` and `gap` in columns. */
export interface TableOptions {
  align?: ('left' | 'right')[];
  indent?: number;
  gap?: number;
}

/** Returns the lines of a plain table. Columns are aligned by display width, without trailing spaces. */
export function table(
  rows: readonly (readonly string[])[],
  { align = [], indent = 0, gap = 3 }: TableOptions = {},
): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, displayWidth(cell));
  }
  return rows.map((row) => {
    const cells = row.map((cell, i) => pad(cell, widths[i] ?? 0, align[i]));
    return (' '.repeat(indent) + cells.join(' '.repeat(gap))).trimEnd();
  });
}

/** Returns the last lines that fit into `room` together, in order. `size` measures a line. */
export function newestThatFit(lines: readonly string[], room: number, size: (line: string) => number): string[] {
  let left = room;
  let first = lines.length;
  while (first > 0) {
    left -= size(lines[first - 1] ?? '');
    if (left < 0) break;
    first--;
  }
  return lines.slice(first);
}
