import { parse, validateDetailed } from 'node-cron';
import { LifeboatError } from '../../base/errors.ts';
import { type Parsed, quote } from './fields.ts';
import { offsetAt, wallToInstants } from './zone.ts';

const ALIASES: ReadonlyMap<string, string> = new Map([
  ['@hourly', '0 * * * *'],
  ['@daily', '0 0 * * *'],
  ['@weekly', '0 0 * * 0'],
  ['@monthly', '0 0 1 * *'],
  ['@yearly', '0 0 1 1 *'],
]);
const FIELDS = ['minute', 'hour', 'day of month', 'month', 'day of week'] as const;
/** Number of values of each field, the limit of its steps. */
const SPANS = [60, 24, 31, 12, 7] as const;
/** Numbers have at most two digits, because node-cron expands ranges before it checks them. */
const PART = /^(\*|\d{1,2}|[a-z]+|(\d{1,2}|[a-z]+)-(\d{1,2}|[a-z]+))(\/(\d{1,2}))?$/i;
const HINT =
  'write five fields (minute hour day month weekday) such as 0 3 * * *, or @hourly, @daily, @weekly, @monthly, @yearly';

const MINUTE = 60_000;
const DAY = 86_400_000;
/** 29 February on a given weekday can be 40 years away, if 2100 is in between. */
const SEARCH_DAYS = 41 * 366;

/** A schedule as sets of numbers. */
interface Cron {
  minutes: number[];
  hours: number[];
  days: Set<number>;
  months: Set<number>;
  weekdays: Set<number>;
  /** both day fields are restricted, so a day matches if either field does, as in crontab(5) */
  eitherDay: boolean;
}

/** Checks a five-field cron expression or alias; the value is the expression with single spaces. */
export function parseSchedule(text: string): Parsed<string> {
  const compiled = compile(text);
  return 'problem' in compiled ? compiled : { value: text.trim().split(/\s+/).join(' ') };
}

function compile(text: string): Parsed<Cron> {
  const trimmed = text.trim();
  if (trimmed.startsWith('@') && !ALIASES.has(trimmed.toLowerCase())) {
    return { problem: 'is not a known schedule', hint: HINT };
  }
  const expression = ALIASES.get(trimmed.toLowerCase()) ?? trimmed;
  const fields = expression.split(/\s+/);
  if (fields.length === 6) return { problem: 'has six fields: seconds are not supported', hint: HINT };
  if (fields.length !== 5) return { problem: 'does not have five fields', hint: HINT };
  for (const [i, field] of fields.entries()) {
    const wrong = checkField(field, i);
    if (wrong !== undefined) return { problem: wrong, hint: HINT };
  }
  const checked = validateDetailed(fields.join(' '));
  if (!checked.valid) return { problem: describe(checked.errors[0]), hint: HINT };
  return fromParsed(fields);
}

/**
 * Refuses what node-cron accepts but crontab(5) does not have, and steps that would not run as often as they suggest.
 */
function checkField(field: string, index: number): string | undefined {
  for (const part of field.split(',')) {
    const match = PART.exec(part);
    if (match === null) return `has an invalid ${FIELDS[index]} field`;
    const step = match[5];
    if (step !== undefined && (Number(step) < 1 || Number(step) >= SPANS[index]!)) {
      return `has a step in the ${FIELDS[index]} field that is out of range`;
    }
  }
  return undefined;
}

function describe(error: { field: string; message: string } | undefined): string {
  if (error?.message.includes('impossible')) return 'names a date that does not exist in any year';
  const names: Readonly<Record<string, string>> = { dayOfMonth: 'day of month', dayOfWeek: 'day of week' };
  const field = error?.field ?? 'expression';
  return `has an invalid ${names[field] ?? field} field`;
}

function fromParsed(fields: string[]): Parsed<Cron> {
  const parsed = parse(fields.join(' '));
  const numbers = [...parsed.dayOfMonth, ...parsed.dayOfWeek];
  // `L` (last day) is an extension of node-cron; its meaning differs between cron implementations.
  if (numbers.some((value) => typeof value !== 'number')) {
    return { problem: 'has an invalid day field', hint: HINT };
  }
  const ascending = (values: number[]) => [...values].sort((a, b) => a - b);
  return {
    value: {
      minutes: ascending(parsed.minute),
      hours: ascending(parsed.hour),
      days: new Set(parsed.dayOfMonth.map(Number)),
      months: new Set(parsed.month),
      weekdays: new Set(parsed.dayOfWeek.map((day) => Number(day) % 7)),
      eitherDay: !fields[2]!.startsWith('*') && !fields[4]!.startsWith('*'),
    },
  };
}

const known = new Map<string, Cron>();

function compiled(schedule: string): Cron {
  const before = known.get(schedule);
  if (before !== undefined) return before;
  const result = compile(schedule);
  if ('problem' in result) {
    throw new LifeboatError('SETTING_INVALID', `schedule ${quote(schedule)} ${result.problem}`, { hint: HINT });
  }
  known.set(schedule, result.value);
  return result.value;
}

/** `day` is midnight of a calendar day, written as if it were UTC. */
function matchesDay(cron: Cron, day: number): boolean {
  const date = new Date(day);
  if (!cron.months.has(date.getUTCMonth() + 1)) return false;
  const byMonth = cron.days.has(date.getUTCDate());
  const byWeek = cron.weekdays.has(date.getUTCDay());
  return cron.eitherDay ? byMonth || byWeek : byMonth && byWeek;
}

/**
 * Returns the instants (ms) at which a schedule runs on a calendar day, ascending, each once. A wall time that the
 * clock skips runs at the first moment after the gap. A wall time that occurs twice runs the first time only, unless
 * the schedule runs in every hour: skipping the repeated hour would then leave a gap.
 */
function runsOfDay(cron: Cron, zone: string, day: number): number[] {
  if (!matchesDay(cron, day)) return [];
  const steady = offsetAt(zone, day - DAY);
  const isSteady = steady === offsetAt(zone, day + 2 * DAY);
  const runs = new Set<number>();
  for (const hour of cron.hours) {
    for (const minute of cron.minutes) {
      const wall = day + (hour * 60 + minute) * MINUTE;
      const instants = isSteady ? [wall - steady] : wallToInstants(zone, wall);
      for (const instant of cron.hours.length === 24 ? instants : instants.slice(0, 1)) runs.add(instant);
    }
  }
  return [...runs].sort((a, b) => a - b);
}

function dayOf(zone: string, instant: number): number {
  return Math.floor((instant + offsetAt(zone, instant)) / DAY) * DAY;
}

/**
 * Returns the first time strictly after `after` at which `schedule` (as {@link parseSchedule} accepts it) runs in the
 * IANA zone.
 *
 * @throws SETTING_INVALID if the schedule is not valid or never runs
 */
export function nextRun(schedule: string, zone: string, after: Date): Date {
  return new Date(search(schedule, zone, after.getTime(), 1));
}

/** Returns the last time at or before `at` at which `schedule` ran. Throws like {@link nextRun}. */
export function previousRun(schedule: string, zone: string, at: Date): Date {
  return new Date(search(schedule, zone, at.getTime(), -1));
}

function search(schedule: string, zone: string, from: number, direction: 1 | -1): number {
  const cron = compiled(schedule);
  // Starts one day earlier: near a change of the clock, a run may belong to the neighbouring calendar day.
  const start = dayOf(zone, from) - direction * DAY;
  for (let i = 0; i < SEARCH_DAYS; i++) {
    const runs = runsOfDay(cron, zone, start + direction * i * DAY);
    const found = direction === 1 ? runs.find((run) => run > from) : runs.findLast((run) => run <= from);
    if (found !== undefined) return found;
  }
  throw new LifeboatError('SETTING_INVALID', `schedule ${quote(schedule)} never runs`, { hint: HINT });
}

/** A last run further in the future than this was recorded by a wrong clock, milliseconds. */
const CLOCK_TOLERANCE = 60 * MINUTE;

/**
 * Returns the scheduled time that is due: the latest one in `(lastRun, now]`, or undefined if there is none. One run
 * makes up for any number of missed ones. A `lastRun` far in the future, by a wrong clock, is ignored: otherwise
 * nothing would run until then.
 */
export function missedRun(schedule: string, zone: string, lastRun: Date, now: Date): Date | undefined {
  const due = previousRun(schedule, zone, now);
  if (lastRun.getTime() > now.getTime() + CLOCK_TOLERANCE) return due;
  return due.getTime() > lastRun.getTime() ? due : undefined;
}
