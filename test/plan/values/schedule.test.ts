import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { missedRun, nextRun, parseSchedule } from '../../../src/plan/values/schedule.ts';

const at = (iso: string) => new Date(iso);

describe('changes of the clock', () => {
  const zone = 'Europe/Berlin';

  test('a skipped time runs at the first moment after the gap', () => {
    expect(nextRun('30 2 * * *', zone, at('2026-03-28T12:00Z'))).toEqual(at('2026-03-29T01:00Z'));
  });

  test('several skipped times run once, also together with a run that is due then', () => {
    const first = nextRun('0,20,40 2,3 * * *', zone, at('2026-03-28T12:00Z'));
    expect(first).toEqual(at('2026-03-29T01:00Z'));
    expect(nextRun('0,20,40 2,3 * * *', zone, first)).toEqual(at('2026-03-29T01:20Z'));
  });

  test('a repeated time runs the first time only', () => {
    const first = nextRun('30 2 * * *', zone, at('2026-10-24T12:00Z'));
    expect(first).toEqual(at('2026-10-25T00:30Z'));
    expect(nextRun('30 2 * * *', zone, first)).toEqual(at('2026-10-26T01:30Z'));
  });

  test('an hourly schedule runs in the repeated hour too', () => {
    const first = nextRun('@hourly', zone, at('2026-10-24T23:30Z'));
    expect(first).toEqual(at('2026-10-25T00:00Z'));
    expect(nextRun('@hourly', zone, first)).toEqual(at('2026-10-25T01:00Z'));
  });

  test('a change by half an hour counts too', () => {
    expect(nextRun('15 2 * * *', 'Australia/Lord_Howe', at('2026-10-03T00:00Z'))).toEqual(at('2026-10-03T15:30Z'));
  });

  test('a skipped day runs at the start of the next day', () => {
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
  test('a clock that was a year ahead delays nothing', () =>
    expect(daily('2027-11-21T03:00Z', '2026-11-21T09:00Z')).toBe('2026-11-21T03:00:00.000Z'));
  test('a clock that was set back slightly repeats nothing', () =>
    expect(daily('2026-11-21T03:00:05Z', '2026-11-21T03:00:01Z')).toBeUndefined());
});
