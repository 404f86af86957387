import { describe, expect, test } from 'vitest';
import {
  endOfRecords,
  formatLsn,
  isSegmentSize,
  parseLsn,
  parseSegmentName,
  segmentAt,
  segmentName,
  startOf,
} from '../../../src/store/wal/names.ts';
import { parseHistory, parseHistoryName } from '../../../src/store/wal/timelines.ts';

const MIB = 1024 * 1024;

describe('positions', () => {
  test.each([
    ['0/0', 0n],
    ['0/2000028', 0x2000028n],
    ['1/0', 1n << 32n],
    ['FFFFFFFF/FFFFFFFF', (1n << 64n) - 1n],
  ])('%s is read and written', (text, value) => {
    expect(parseLsn(text)).toBe(value);
    expect(formatLsn(value)).toBe(text);
  });

  test.each(['', '0', '0/', '/0', '0/G', '123456789/0', '0/2000028 '])('%j is refused', (text) => {
    expect(() => parseLsn(text)).toThrow(expect.objectContaining({ code: 'OBJECT_DAMAGED' }));
  });
});

describe('segments', () => {
  // The names that pg_walfile_name() of Postgres 17 returns for these positions.
  test.each([
    ['0/2000028', 1, 16 * MIB, '000000010000000000000002'],
    ['0/FFFFFFFF', 1, 16 * MIB, '0000000100000000000000FF'],
    ['1/0', 2, 16 * MIB, '000000020000000100000000'],
    ['1/5C000000', 10, 64 * MIB, '0000000A0000000100000017'],
    ['0/C0000000', 1, 1024 * MIB, '000000010000000000000003'],
  ])('%s on timeline %i with segments of %i bytes is in %s', (lsn, timeline, size, name) => {
    const number = segmentAt(parseLsn(lsn), size);
    expect(segmentName({ timeline, number }, size)).toBe(name);
    expect(parseSegmentName(name, size)).toEqual({ timeline, number });
    expect(segmentAt(startOf(number, size), size)).toBe(number);
  });

  test.each([
    '00000001000000000000000',
    '000000000000000000000001',
    '000000010000000000000100',
    '00000001000000000000000g',
    '000000010000000000000002.partial',
    '00000001.history',
  ])('%s is not a segment', (name) => {
    expect(parseSegmentName(name, 16 * MIB)).toBeUndefined();
  });

  test('sizes are powers of two from 1 MiB to 1 GiB', () => {
    expect([MIB, 16 * MIB, 1024 * MIB].every(isSegmentSize)).toBe(true);
    expect([0, MIB / 2, 3 * MIB, 2048 * MIB, Number.NaN].some(isSegmentSize)).toBe(false);
  });
});

test('a history file lists the ancestors of a timeline', () => {
  expect(parseHistoryName('0000000A.history')).toBe(10);
  expect(parseHistoryName('0000000A')).toBeUndefined();
  expect(parseHistory('1\t0/5000000\tbefore 2026-11-20\n\n# note\n2\t1/0\tno reason\n')).toEqual([
    { timeline: 1, until: 0x5000000n },
    { timeline: 2, until: 1n << 32n },
  ]);
  expect(() => parseHistory('one 0/0')).toThrow(expect.objectContaining({ code: 'OBJECT_DAMAGED' }));
});

test('a position behind the header of an empty page is the end of the page before it', () => {
  expect(endOfRecords(parseLsn('0/3000028'), 16 * MIB)).toBe(parseLsn('0/3000000'));
  expect(endOfRecords(parseLsn('0/3002018'), 16 * MIB)).toBe(parseLsn('0/3002000'));
  expect(endOfRecords(parseLsn('0/3002028'), 16 * MIB)).toBe(parseLsn('0/3002028'));
  expect(endOfRecords(parseLsn('0/3000060'), 16 * MIB)).toBe(parseLsn('0/3000060'));
});
