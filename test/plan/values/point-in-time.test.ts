import { expect, test } from 'vitest';
import { parsePointInTime, parseTimeAgo } from '../../../src/plan/values/point-in-time.ts';

test.each([
  ['2026-11-20 14:30:00+01', '2026-11-20 13:30:00.000000+00'],
  ['2026-11-20T14:30:00Z', '2026-11-20 14:30:00.000000+00'],
  ['2026-11-20 14:30Z', '2026-11-20 14:30:00.000000+00'],
  ['2026-11-20 14:30:00.1-0330', '2026-11-20 18:00:00.100000+00'],
  // As clock_timestamp() prints it. The microseconds stay.
  ['2026-11-29 05:49:24.277246+00', '2026-11-29 05:49:24.277246+00'],
  ['2026-11-20 00:00:00.000001 +00:00', '2026-11-20 00:00:00.000001+00'],
])('%s is %s', (value, text) => {
  const point = parsePointInTime(value);
  expect(point?.text).toBe(text);
  expect(point?.date.toISOString().slice(0, 23)).toBe(text.slice(0, 23).replace(' ', 'T'));
});

test.each(['2026-11-20 14:30:00', '2026-11-20', 'latest', '', '2026-13-40 00:00Z', "2026-11-20 14:30:00+01'; --"])(
  '%j is refused',
  (value) => {
    expect(parsePointInTime(value)).toBeUndefined();
  },
);

const NOW = new Date('2026-11-20T14:30:00.250Z');

test.each([
  ['30s', '2026-11-20 14:29:30.250000+00'],
  ['-30s', '2026-11-20 14:29:30.250000+00'],
  ['30 seconds ago', '2026-11-20 14:29:30.250000+00'],
  ['10m', '2026-11-20 14:20:00.250000+00'],
  ['2h ago', '2026-11-20 12:30:00.250000+00'],
  ['1 hour 30 minutes ago', '2026-11-20 13:00:00.250000+00'],
  ['1d2h', '2026-11-19 12:30:00.250000+00'],
])('%j is %s', (value, text) => {
  expect(parseTimeAgo(value, NOW)?.text).toBe(text);
});

test.each(['', 'ago', '30', '30x', '10 months ago', 'in 30s', '30s later', '--30s', '9999999d', '14:30', '1h; --'])(
  '%j is no time before now',
  (value) => {
    expect(parseTimeAgo(value, NOW)).toBeUndefined();
  },
);
