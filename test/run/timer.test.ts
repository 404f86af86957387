import { expect, test } from 'vitest';
import { startTimer } from '../../src/run/timer.ts';

const START = Date.parse('2026-11-20T03:00:00Z');
const HOUR = 3_600_000;

/** The time that a run of this test may really take, milliseconds. */
const REAL_MS = 60_000;

test.each([
  ['set back by a year', -365 * 24 * HOUR],
  ['set back by ten minutes', -HOUR / 6],
  ['set ahead by three weeks', 21 * 24 * HOUR],
])('a run during which the clock is %s lasts as long as it really did', (_, jump) => {
  let clock = START;
  const ended = startTimer(() => new Date(clock));
  clock += jump;
  const took = ended().getTime() - START;
  expect(took).toBeGreaterThanOrEqual(0);
  expect(took).toBeLessThan(REAL_MS);
});

test('a clock that is corrected by a second gives the time that it shows, but none before the start', () => {
  let clock = START;
  const ended = startTimer(() => new Date(clock));
  clock += 1000;
  expect(ended().getTime()).toBe(START + 1000);
  clock -= 2000;
  expect(ended().getTime()).toBe(START);
});
