import { expect, test } from 'vitest';
import { parseCopies, parseDestination } from '../../../src/plan/location.ts';
import { costOf } from '../../../src/plan/values/place-limits.ts';

test('the limits of a location are taken out of its options', () => {
  expect(
    parseDestination('s3://bucket/p?region=eu-central-1&price-per-gb=0.023&warn-cost=20&warn-size=1.5TiB'),
  ).toEqual({
    value: {
      location: 's3://bucket/p?region=eu-central-1',
      limits: { pricePerGb: 0.023, warnCost: 20, warnSize: 1.5 * 1024 ** 4 },
    },
  });
  expect(parseDestination('/backups/?warn-size=500GB')).toEqual({
    value: { location: '/backups', limits: { warnSize: 500e9 } },
  });
  expect(parseDestination('/backups')).toEqual({ value: { location: '/backups' } });
  expect(parseCopies('/nas?keep=90d&price-per-gb=0 s3://bucket/p?price-per-gb=1&region=x')).toEqual({
    value: [
      { location: '/nas', name: '/nas', keep: { daily: 90 }, limits: { pricePerGb: 0 } },
      { location: 's3://bucket/p?region=x', name: 's3://bucket/p', limits: { pricePerGb: 1 } },
    ],
  });
});

test.each([
  ['/b?warn-size=500', 'has a wrong warn-size'],
  ['/b?warn-size=-1GB', 'has a wrong warn-size'],
  ['/b?price-per-gb=0_02', 'has a wrong price-per-gb'],
  ['/b?price-per-gb=', 'has a wrong price-per-gb'],
  ['/b?price-per-gb=1e9', 'has a wrong price-per-gb'],
  ['/b?price-per-gb=1&price-per-gb=2', 'has price-per-gb twice'],
  ['/b?warn-cost=20', 'has warn-cost without price-per-gb'],
])('%s is refused', (text, problem) => {
  expect(parseDestination(text)).toMatchObject({ problem });
  expect(parseCopies(text)).toMatchObject({ problem });
});

test('other options are judged as before', () => {
  expect(parseDestination('s3://bucket/p?regon=x&price-per-gb=1')).toHaveProperty('problem');
  expect(parseCopies('/nas?x=1')).toMatchObject({ problem: 'has an unknown option after the ?' });
});

test('1 GB of a price is 10⁹ bytes', () => {
  expect(costOf(250e9, { pricePerGb: 0.023 })).toBeCloseTo(5.75);
  expect(costOf(250e9, {})).toBeUndefined();
});
