import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { everyMinute } from '../../src/daemon/every-minute.ts';

const MINUTE = 60_000;
const YEAR = 365 * 24 * 60 * MINUTE;

let ticks: number[];
let stop: () => void;

beforeEach(() => {
  vi.useFakeTimers({ now: new Date('2026-11-20T10:00:30Z') });
  ticks = [];
  stop = everyMinute(async () => void ticks.push(Date.now()));
});
afterEach(() => {
  stop();
  vi.useRealTimers();
});

test('ticks once a minute, after the full minute', () => {
  vi.advanceTimersByTime(29_000);
  expect(ticks).toEqual([]);
  vi.advanceTimersByTime(9 * MINUTE + 2000);
  expect(ticks).toHaveLength(10);
  expect(ticks.every((at) => at % MINUTE < 1000)).toBe(true);
});

test.each([
  ['ahead by a year', YEAR],
  ['ahead by an hour and a half minute', 60.5 * MINUTE],
  ['back by a year', -YEAR],
  ['back by twenty seconds', -20_000],
  ['from 1970 to now, and further', 50 * YEAR],
])('goes on ticking once a minute when the clock jumps: %s', (_, jump) => {
  vi.advanceTimersByTime(2 * MINUTE);
  vi.setSystemTime(Date.now() + jump);
  ticks = [];
  vi.advanceTimersByTime(10 * MINUTE);
  expect(ticks.length).toBeGreaterThanOrEqual(9);
  expect(ticks.length).toBeLessThanOrEqual(11);
  expect(ticks.slice(1).every((at) => at % MINUTE < 1000)).toBe(true);
});

test('goes on ticking when the clock was ahead at the start and is set right', () => {
  stop();
  vi.setSystemTime(Date.now() + 20 * 24 * 60 * MINUTE);
  stop = everyMinute(async () => void ticks.push(Date.now()));
  vi.advanceTimersByTime(3000);
  vi.setSystemTime(new Date('2026-11-20T10:00:40Z'));
  ticks = [];
  vi.advanceTimersByTime(5 * MINUTE);
  expect(ticks.length).toBeGreaterThanOrEqual(4);
});

test('stops, also from within a tick', () => {
  stop();
  stop = everyMinute(async () => {
    ticks.push(Date.now());
    stop();
  });
  vi.advanceTimersByTime(5 * MINUTE);
  expect(ticks).toHaveLength(1);
});
