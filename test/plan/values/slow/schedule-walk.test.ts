import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { missedRun, nextRun, previousRun } from '../../../../src/plan/values/schedule.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

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
  test.each(windows)('%s from %s', (zone, from) => {
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
      { numRuns: 200 },
    );
  });
});

test('regular ticks run each scheduled time once, whatever the clock does', () => {
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
    { numRuns: 50 },
  );
});
