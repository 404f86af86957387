import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as f from '../../src/report/format.ts';

const KIB = 1024;

test.each([
  [0, '0 B'],
  [512, '512 B'],
  [1023, '1,023 B'],
  [1024, '1.0 KiB'],
  [1536, '1.5 KiB'],
  [99.94 * KIB, '99.9 KiB'],
  [99.96 * KIB, '100 KiB'],
  [612 * KIB ** 2, '612 MiB'],
  [1023.4 * KIB, '1,023 KiB'],
  [1023.6 * KIB, '1.0 MiB'],
  [1.4 * KIB ** 3, '1.4 GiB'],
  [3 * KIB ** 5, '3.0 PiB'],
  [5_000 * KIB ** 5, '5,000 PiB'],
  [Number.NaN, '?'],
  [-1, '?'],
])('formatBytes(%d) is %s', (bytes, text) => {
  expect(f.formatBytes(bytes)).toBe(text);
});

test.each([
  [12.02 * KIB ** 2, 12.04 * KIB ** 2, '12,603,884 B', '12,624,855 B'],
  [12 * KIB ** 2, 13 * KIB ** 2, '12.0 MiB', '13.0 MiB'],
  [KIB, KIB, '1.0 KiB', '1.0 KiB'],
])('two sizes in one sentence differ if they are not equal: %d and %d', (one, other, ...texts) => {
  expect(f.formatBoth(Math.round(one), Math.round(other))).toEqual(texts);
});

test('formatBytes is at most 5 % off, and never shows four digits above bytes', () => {
  const units = { B: 1, KiB: KIB, MiB: KIB ** 2, GiB: KIB ** 3, TiB: KIB ** 4 };
  fc.assert(
    fc.property(fc.integer({ min: 0, max: KIB ** 5 / 2 }), (bytes) => {
      const [value = '', unit = ''] = f.formatBytes(bytes).split(' ');
      const back = Number(value.replace(',', '')) * units[unit as keyof typeof units];
      expect(Math.abs(back - bytes)).toBeLessThanOrEqual(bytes * 0.05);
      expect(Number(value.replace(',', ''))).toBeLessThan(1024);
    }),
  );
});

test.each([
  [0, '0s'],
  [400, '0s'],
  [41_000, '41s'],
  [59_600, '1m'],
  [192_000, '3m 12s'],
  [3_600_000, '1h'],
  [7_500_000, '2h 5m'],
  [90_000_000, '1d 1h'],
  [-5, '0s'],
])('formatDuration(%d) is %s', (ms, text) => {
  expect(f.formatDuration(ms)).toBe(text);
});

test.each([
  [30, 'just now', 'under a minute'],
  [5 * 60, '5m ago', '5m'],
  [9 * 3_600, '9h ago', '9h'],
  [47 * 3_600, '47h ago', '47h'],
  [48 * 3_600, '2 days ago', '2 days'],
  [1_500 * 86_400, '1,500 days ago', '1,500 days'],
])('%d seconds are %s', (seconds, ago, age) => {
  const now = new Date('2026-11-20T03:00:00Z');
  expect(f.formatAgo(new Date(now.getTime() - seconds * 1_000), now)).toBe(ago);
  expect(f.formatAge(seconds * 1_000)).toBe(age);
});

test('a time in the future is shown as such, except for a small difference of clocks', () => {
  const now = new Date('2026-11-20T00:00:00Z');
  expect(f.formatAgo(new Date('2026-12-10T00:00:00Z'), now)).toBe('in 20 days');
  expect(f.formatAgo(new Date('2026-11-20T00:09:00Z'), now)).toBe('just now');
});

test.each([
  ['2026-11-21T02:00:00Z', '2026-11-20T16:48:00Z', 'Europe/Berlin', 'tomorrow 03:00 CET'],
  ['2026-07-21T01:00:00Z', '2026-07-20T16:48:00Z', 'Europe/Berlin', 'tomorrow 03:00 CEST'],
  ['2026-11-20T23:30:00Z', '2026-11-20T22:30:00Z', 'Europe/Berlin', 'tomorrow 00:30 CET'],
  ['2026-11-20T13:05:00Z', '2026-11-20T16:48:00Z', 'Europe/Berlin', 'today 14:05 CET'],
  ['2026-11-19T13:05:00Z', '2026-11-20T16:48:00Z', 'UTC', 'yesterday 13:05 UTC'],
  ['2026-12-04T08:00:00Z', '2026-11-20T16:48:00Z', 'America/New_York', 'Fri 4 Dec 03:00 EST'],
  ['2027-01-01T18:00:00Z', '2026-11-20T16:48:00Z', 'Asia/Tokyo', 'Sat 2 Jan 2027 03:00 UTC+9'],
  ['2026-11-20T12:00:00Z', '2026-11-20T11:00:00Z', 'Europe/London', 'today 12:00 GMT'],
  // a day with 23 or 25 hours counts as one day
  ['2026-03-29T22:30:00Z', '2026-03-28T22:30:00Z', 'Europe/Berlin', 'Mon 30 Mar 00:30 CEST'],
  ['2026-10-25T23:30:00Z', '2026-10-24T22:30:00Z', 'Europe/Berlin', 'tomorrow 00:30 CET'],
  ['2026-11-20T00:00:00Z', '2026-11-20T11:00:00Z', 'UTC', 'today 00:00 UTC'],
])('%s seen from %s in %s is %s', (when, now, zone, text) => {
  expect(f.formatWhen(new Date(when), { now: new Date(now), zone })).toBe(text);
});

test('the default zone, which needs no tables, reads like any other', () => {
  for (let day = 0; day < 800; day++) {
    const when = new Date(Date.UTC(2026, 10, 29, day % 24, day % 60) + day * 86_400_000);
    const now = new Date('2026-12-01T12:00:00Z');
    expect(f.formatWhen(when, { now, zone: 'UTC' })).toBe(f.formatWhen(when, { now, zone: 'Etc/UTC' }));
  }
});

test.each([
  [1, '1 file'],
  [0, '0 files'],
  [20_114, '20,114 files'],
])('plural(%d)', (count, text) => {
  expect(f.plural(count, 'file')).toBe(text);
});

test('plural takes an irregular form', () => {
  expect(f.plural(2, 'copy', 'copies')).toBe('2 copies');
});

describe('untrusted text', () => {
  test.each([
    ['a\nb\r\n\tc', 'a b c'],
    ['\u001b[2Jboo', '�[2Jboo'],
    ['a\u202egnp.exe', 'a�gnp.exe'],
    ['nul\0', 'nul�'],
    ['\u2028x ', 'x'],
    ['grüße 你好', 'grüße 你好'],
  ])('oneLine(%j)', (text, line) => {
    expect(f.oneLine(text)).toBe(line);
  });

  test('becomes one line without control characters', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 0x2100 }), { maxLength: 20 }).map((codes) => String.fromCodePoint(...codes)),
        (text) => {
          expect(f.oneLine(text)).not.toMatch(/[\p{Cc}\u2028\u2029\u202a-\u202e]/u);
        },
      ),
    );
  });
});

test.each([
  ['abc', 3],
  ['äöü', 3],
  ['e\u0301', 1],
  ['你好', 4],
  ['ｆ', 2],
  ['한글', 4],
  ['👨‍👩‍👧', 2],
  ['\u001b[31mred\u001b[39m', 3],
  ['…', 1],
  ['→', 1],
])('displayWidth(%s) is %d', (text, width) => {
  expect(f.displayWidth(text)).toBe(width);
});

test('a table lines up by display width', () => {
  const lines = f.table(
    [
      ['SOURCE', 'SIZE', 'KEEP'],
      ['你好.media', '1.4 GiB', '7d'],
      ['db', '12 B', ''],
    ],
    { indent: 2, gap: 2, align: ['left', 'right'] },
  );
  expect(lines).toEqual(['  SOURCE         SIZE  KEEP', '  你好.media  1.4 GiB  7d', '  db             12 B']);
});

test('cutToWidth never exceeds the width nor splits a character', () => {
  expect(f.cutToWidth('abcdef', 4)).toBe('abc…');
  expect(f.cutToWidth('abc', 3)).toBe('abc');
  expect(f.cutToWidth('你好吗', 4)).toBe('你…');
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 0, max: 20 }), (text, width) => {
      expect(f.displayWidth(f.cutToWidth(text, width))).toBeLessThanOrEqual(width);
    }),
  );
});

test('newestThatFit keeps the end', () => {
  const size = (line: string) => line.length;
  expect(f.newestThatFit(['aaa', 'bb', 'c'], 3, size)).toEqual(['bb', 'c']);
  expect(f.newestThatFit(['aaa'], 2, size)).toEqual([]);
  expect(f.newestThatFit(['a', 'b'], 99, size)).toEqual(['a', 'b']);
});
