import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/errors.ts';
import { missedRun, nextRun, parseSchedule, previousRun } from '../../src/plan/schedule.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const at = (iso: string) => new Date(iso);
/** The full counts take a minute. */
const timeout = 600_000;
const runs = process.env.LIFEBOAT_FUZZ ? 1_000 : 40;

/** A schedule as a person would explain it, with the expression that says so. */
interface Wanted {
  expression: string;
  minutes: number[];
  hours: number[];
  weekdays: number[];
  everyHour: boolean;
}

/** One minute of real time, and what the clock on the wall shows. */
interface Shown {
  instant: number;
  /** minutes since 1970 of the wall time, as if it were UTC */
  wall: number;
}

function wallMinutes(zone: string, from: string, days: number): Shown[] {
  const format = new Intl.DateTimeFormat('en-GB', {
    timeZone: zone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
  });
  const start = Date.parse(from);
  return Array.from({ length: days * 24 * 60 }, (_, i) => {
    const instant = start + i * MINUTE;
    const [day, month, year, hour, minute] = format.format(instant).match(/\d+/g)!.map(Number);
    return { instant, wall: Date.UTC(year!, month! - 1, day, hour, minute) / MINUTE };
  });
}

/** The runs in a window, told by walking through it minute by minute. */
function oracle(window: Shown[], wanted: Wanted): number[] {
  const matches = (wall: number) => {
    const date = new Date(wall * MINUTE);
    return (
      wanted.minutes.includes(date.getUTCMinutes()) &&
      wanted.hours.includes(date.getUTCHours()) &&
      wanted.weekdays.includes(date.getUTCDay())
    );
  };
  const found: number[] = [];
  let latest = window[0]!.wall - 1;
  for (const { instant, wall } of window) {
    const isRepeated = wall <= latest;
    let due = matches(wall) && (!isRepeated || wanted.everyHour);
    for (let skipped = latest + 1; skipped < wall; skipped++) due ||= matches(skipped);
    if (due) found.push(instant);
    latest = Math.max(latest, wall);
  }
  return found;
}

const some = (max: number, size: number) =>
  fc
    .uniqueArray(fc.integer({ min: 0, max }), { minLength: 1, maxLength: size })
    .map((values) => values.sort((a, b) => a - b));
const all = (count: number) => Array.from({ length: count }, (_, i) => i);

const wantedSchedule: fc.Arbitrary<Wanted> = fc
  .record({
    minutes: some(59, 4),
    // Around the changes of the clock, mostly.
    hours: fc.oneof(some(23, 4), some(4, 3), fc.constant(all(24))),
    weekdays: fc.oneof(fc.constant(all(7)), some(6, 3)),
  })
  .map((wanted) => {
    const everyHour = wanted.hours.length === 24;
    const weekdays = wanted.weekdays.length === 7 ? '*' : wanted.weekdays.join(',');
    const expression = `${wanted.minutes.join(',')} ${everyHour ? '*' : wanted.hours.join(',')} * * ${weekdays}`;
    return { ...wanted, everyHour, expression };
  });

const windows = [
  ['Europe/Berlin', '2026-03-25T00:00Z'],
  ['Europe/Berlin', '2026-10-21T00:00Z'],
  ['America/New_York', '2026-03-04T00:00Z'],
  ['America/New_York', '2026-10-28T00:00Z'],
  ['Australia/Lord_Howe', '2026-04-01T00:00Z'],
  ['Australia/Lord_Howe', '2026-09-30T00:00Z'],
  ['UTC', '2026-12-28T00:00Z'],
] as const;

describe('against a walk minute by minute', () => {
  test.each(windows)('%s from %s', { timeout }, (zone, from) => {
    const window = wallMinutes(zone, from, 7);
    const offset = fc.integer({ min: 60 * 24, max: 6 * 24 * 60 });
    fc.assert(
      fc.property(wantedSchedule, offset, fc.integer({ min: 0, max: MINUTE - 1 }), (wanted, index, ms) => {
        const expected = oracle(window, wanted);
        const now = window[index]!.instant + ms;
        const next = expected.find((run) => run > now);
        const previous = expected.findLast((run) => run <= now);
        const found = nextRun(wanted.expression, zone, new Date(now)).getTime();
        expect(found).toBeGreaterThan(now);
        if (next !== undefined) expect(new Date(found)).toEqual(new Date(next));
        if (previous !== undefined) {
          expect(previousRun(wanted.expression, zone, new Date(now))).toEqual(new Date(previous));
        }
      }),
      { numRuns: runs },
    );
  });
});

describe('changes of the clock', () => {
  const zone = 'Europe/Berlin';

  test('a skipped time runs at the first moment after the gap', () => {
    expect(nextRun('30 2 * * *', zone, at('2026-03-28T12:00Z'))).toEqual(at('2026-03-29T01:00Z'));
  });

  test('skipped times run once together, also with one that is due right then', () => {
    const first = nextRun('0,20,40 2,3 * * *', zone, at('2026-03-28T12:00Z'));
    expect(first).toEqual(at('2026-03-29T01:00Z'));
    expect(nextRun('0,20,40 2,3 * * *', zone, first)).toEqual(at('2026-03-29T01:20Z'));
  });

  test('a repeated time runs the first time only', () => {
    const first = nextRun('30 2 * * *', zone, at('2026-10-24T12:00Z'));
    expect(first).toEqual(at('2026-10-25T00:30Z'));
    expect(nextRun('30 2 * * *', zone, first)).toEqual(at('2026-10-26T01:30Z'));
  });

  test('what runs every hour runs in the repeated hour too', () => {
    const first = nextRun('@hourly', zone, at('2026-10-24T23:30Z'));
    expect(first).toEqual(at('2026-10-25T00:00Z'));
    expect(nextRun('@hourly', zone, first)).toEqual(at('2026-10-25T01:00Z'));
  });

  test('half an hour is a change as well', () => {
    expect(nextRun('15 2 * * *', 'Australia/Lord_Howe', at('2026-10-03T00:00Z'))).toEqual(at('2026-10-03T15:30Z'));
  });

  test('a day that never was runs when the next one begins', () => {
    expect(nextRun('0 12 30 12 *', 'Pacific/Apia', at('2011-12-28T00:00Z'))).toEqual(at('2011-12-30T10:00Z'));
  });
});

describe('dates', () => {
  const next = (schedule: string, after: string) => nextRun(schedule, 'UTC', at(after)).toISOString().slice(0, 16);

  test.each([
    ['0 0 29 2 *', '2026-01-01T00:00Z', '2028-02-29T00:00'],
    ['0 0 29 2 *', '2096-02-29T00:00Z', '2104-02-29T00:00'],
    ['0 0 31 * *', '2026-01-31T00:00Z', '2026-03-31T00:00'],
    ['@monthly', '2026-01-31T10:00Z', '2026-02-01T00:00'],
    ['@yearly', '2026-01-31T10:00Z', '2027-01-01T00:00'],
    ['@weekly', '2026-11-20T10:00Z', '2026-11-22T00:00'],
    ['@Daily', '2026-11-20T10:00Z', '2026-11-21T00:00'],
    ['5 4 * * 7', '2026-11-20T10:00Z', '2026-11-22T04:05'],
    ['5 4 * * mon-fri', '2026-11-20T10:00Z', '2026-11-23T04:05'],
    ['*/20 8-10/2 * jan,MAR *', '2026-01-31T10:20Z', '2026-01-31T10:40'],
    // crontab(5): with both days restricted, either is enough
    ['0 0 13 * fri', '2026-11-14T00:00Z', '2026-11-20T00:00'],
    ['0 0 13 * fri', '2026-12-11T00:00Z', '2026-12-13T00:00'],
  ])('%s after %s', (schedule, after, expected) => expect(next(schedule, after)).toBe(expected));

  test.each([
    '@every 1h',
    '@reboot',
    '@midnight',
    '* * * * * *',
    '* * * *',
    '',
    '0 0 30 2 *',
    '0 0 31 4,6,9,11 *',
    '60 * * * *',
    '* 24 * * *',
    '* * 0 * *',
    '* * * 13 *',
    '* * * * 8',
    '*/0 * * * *',
    '*/90 * * * *',
    '5/10 * * * *',
    '0 3 L * *',
    '0 3 15W * *',
    '0 3 * * 1#2',
    '0 3 ? * *',
    '1,,2 * * * *',
    '-5 * * * *',
    '0-99999999999 * * * *',
    'mon * * * *',
    '0 3 * * *; reboot',
  ])('%j is refused', (schedule) => {
    expect(parseSchedule(schedule)).toMatchObject({ problem: expect.any(String), hint: expect.any(String) });
    expect(() => nextRun(schedule, 'UTC', at('2026-01-01T00:00Z'))).toThrow(LifeboatError);
  });

  test('spaces do not matter', () => expect(parseSchedule('  0   3 * * * ')).toEqual({ value: '0 3 * * *' }));
});

describe('missed runs', () => {
  const daily = (lastRun: string, now: string) => missedRun('0 3 * * *', 'UTC', at(lastRun), at(now))?.toISOString();

  test('none before its time', () => expect(daily('2026-11-20T03:00Z', '2026-11-21T02:59:59Z')).toBeUndefined());
  test('due at its minute', () =>
    expect(daily('2026-11-20T03:00Z', '2026-11-21T03:00Z')).toBe('2026-11-21T03:00:00.000Z'));
  test('not twice', () => expect(daily('2026-11-21T03:00:02Z', '2026-11-21T03:00:30Z')).toBeUndefined());
  test('one for many', () => expect(daily('2026-11-01T03:00Z', '2026-11-21T09:00Z')).toBe('2026-11-21T03:00:00.000Z'));
  test('a clock that was a year ahead holds nothing up', () =>
    expect(daily('2027-11-21T03:00Z', '2026-11-21T09:00Z')).toBe('2026-11-21T03:00:00.000Z'));
  test('a clock that was put back a little repeats nothing', () =>
    expect(daily('2026-11-21T03:00:05Z', '2026-11-21T03:00:01Z')).toBeUndefined());

  test('regular ticks run each scheduled time once, whatever the clock does', { timeout }, () => {
    fc.assert(
      fc.property(fc.constantFrom(...windows), wantedSchedule, ([zone, from], wanted) => {
        const start = Date.parse(from) + 84 * HOUR;
        const end = start + 24 * HOUR;
        const ran: number[] = [];
        let last = new Date(start);
        for (let now = start; now <= end; now += 10 * MINUTE) {
          const due = missedRun(wanted.expression, zone, last, new Date(now));
          if (due === undefined) continue;
          ran.push(due.getTime());
          last = new Date(now);
        }
        expect(new Set(ran).size).toBe(ran.length);
        let expected = nextRun(wanted.expression, zone, new Date(start)).getTime();
        const count = ran.length;
        for (let i = 0; i < count; i++) {
          expect(ran[i]!).toBeGreaterThanOrEqual(expected);
          expect(ran[i]! - expected).toBeLessThan(10 * MINUTE);
          expected = nextRun(wanted.expression, zone, new Date(ran[i]!)).getTime();
        }
        expect(expected).toBeGreaterThan(end);
      }),
      { numRuns: process.env.LIFEBOAT_FUZZ ? 200 : 8 },
    );
  });
});
