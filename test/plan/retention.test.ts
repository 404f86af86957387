import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { KeepPolicy } from '../../src/plan/model.ts';
import { formatKeep, parseKeep } from '../../src/plan/retention.ts';

const count = fc.integer({ min: 1, max: 100_000 });
const policy = fc
  .record(
    { last: count, within: count, daily: count, weekly: count, monthly: count, yearly: count },
    { requiredKeys: [] },
  )
  .filter((value) => Object.keys(value).length > 0) as fc.Arbitrary<KeepPolicy>;

describe('keep policy', () => {
  test('formatting and parsing are inverses', () => {
    fc.assert(
      fc.property(policy, (value) => {
        expect(parseKeep(formatKeep(value))).toEqual({ value });
      }),
    );
  });

  test('whole days are days', () => {
    expect(formatKeep({ within: 168, last: 2 })).toBe('last 2 within 7d');
    expect(formatKeep({ within: 36 })).toBe('within 36h');
  });

  test.each([
    ['7d 4w 12m', { daily: 7, weekly: 4, monthly: 12 }],
    [' 3Y\t7D ', { yearly: 3, daily: 7 }],
    ['last 5', { last: 5 }],
    ['within 48h', { within: 48 }],
    ['within 2d', { within: 48 }],
    ['within 1w last 2', { within: 168, last: 2 }],
    ['0d 4w', { weekly: 4 }],
  ])('%j', (text, value) => expect(parseKeep(text)).toEqual({ value }));

  test.each([
    ['', 'is empty'],
    ['7', 'has a number without a unit'],
    ['48h', 'has hours without within'],
    ['0d 0w last 0', 'keeps nothing'],
    ['7d 7d', 'has daily more than once'],
    ['0d 7d', 'has daily more than once'],
    ['last', 'needs a number after last'],
    ['last 5d', 'needs a number after last'],
    ['within 5', 'needs hours, days or weeks after within'],
    ['-7d', 'is not a keep policy'],
    ['1.5d', 'is not a keep policy'],
    ['7 d', 'has a number without a unit'],
    ['forever', 'is not a keep policy'],
    ['999999d', 'has a count above 100000'],
  ])('%j is refused', (text, problem) => expect(parseKeep(text)).toMatchObject({ problem }));
});
