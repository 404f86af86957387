import { describe, expect, test } from 'vitest';
import { isOtherSegment, RecordScanner } from '../../../src/store/wal/records.ts';

const PAGE = 8192;
const SYSTEM = 7713464397883531290n;
const START = 0x500_0000n;

/** Writes WAL from START on as a server does, and returns the position of each record. */
function wal(lengths: readonly number[]): { bytes: Buffer; records: bigint[]; ends: number[] } {
  const bytes = Buffer.alloc(64 * PAGE);
  const [records, ends]: [bigint[], number[]] = [[], []];
  let at = 0;
  const header = (remaining: number) => {
    const isFirst = at === 0;
    bytes.writeUInt16LE(0xd116, at);
    bytes.writeUInt16LE((isFirst ? 2 : 0) | (remaining > 0 ? 1 : 0), at + 2);
    bytes.writeBigUInt64LE(START + BigInt(at), at + 8);
    bytes.writeUInt32LE(remaining, at + 16);
    if (isFirst) {
      bytes.writeBigUInt64LE(SYSTEM, 24);
      bytes.writeUInt32LE(PAGE, 36);
    }
    at += isFirst ? 40 : 24;
  };
  for (const length of lengths) {
    if (at % PAGE === 0) header(0);
    records.push(START + BigInt(at));
    bytes.writeUInt32LE(length, at);
    for (let left = length; left > 0; ) {
      if (at % PAGE === 0) header(left);
      const here = Math.min(left, PAGE - (at % PAGE));
      at += here;
      left -= here;
    }
    ends.push(at);
    at = Math.ceil(at / 8) * 8;
  }
  return { bytes, records, ends };
}

function lastOf(bytes: Buffer, from = 0): bigint | undefined {
  const scanner = new RecordScanner(START + BigInt(from), () => undefined);
  scanner.add(bytes.subarray(from));
  scanner.end();
  return scanner.last;
}

describe('the last record of stored WAL', () => {
  test.each([
    ['one record', [24]],
    ['records of odd lengths', [31, 57, 24]],
    ['a record that fills its page', [PAGE - 40]],
    ['a record over several pages', [100, 3 * PAGE, 50]],
    ['a long record at the end', [100, 3 * PAGE]],
    ['a record that ends with its last page', [100, PAGE - 40 - 104 + 2 * (PAGE - 24)]],
  ])('is found: %s', (_, lengths) => {
    const { bytes, records } = wal(lengths);
    expect(lastOf(bytes)).toBe(records.at(-1));
  });

  test.each([1, 8, 30, 5000, 20_000])('is the one before a record that lacks %i bytes', (lacking) => {
    const { bytes, records, ends } = wal([60, 80, 3 * PAGE]);
    expect(lastOf(bytes.subarray(0, (ends[2] as number) - lacking))).toBe(records[1]);
  });

  test('is found from the middle of a long record on, and is unknown inside of it', () => {
    const { bytes, records } = wal([60, 3 * PAGE, 40]);
    expect(lastOf(bytes, PAGE)).toBe(records[2]);
    expect(lastOf(bytes.subarray(0, 3 * PAGE), PAGE)).toBeUndefined();
  });

  test('is found if the WAL is added in pieces', () => {
    const { bytes, records } = wal([60, 3 * PAGE, 40]);
    const scanner = new RecordScanner(START, () => undefined);
    for (let at = 0; at < bytes.length; at += 5000) scanner.add(bytes.subarray(at, at + 5000));
    scanner.end();
    expect(scanner.last).toBe(records[2]);
  });

  test('is not one that a restarted server wrote over', () => {
    const { bytes, records } = wal([60, 3 * PAGE, 40]);
    const second = wal([70]);
    // Another record begins on the second page, which no longer says that it continues the one before.
    bytes.fill(0, PAGE);
    bytes.writeUInt16LE(0xd116, PAGE);
    bytes.writeBigUInt64LE(START + BigInt(PAGE), PAGE + 8);
    second.bytes.copy(bytes, PAGE + 24, 40, 40 + 72);
    expect(lastOf(bytes.subarray(0, PAGE))).toBe(records[0]);
    expect(lastOf(bytes)).toBe(START + BigInt(PAGE + 24));
  });

  test('is unknown for zeros', () => {
    expect(lastOf(Buffer.alloc(4 * PAGE))).toBeUndefined();
  });
});

test('a segment of another place or server is seen by its first bytes', () => {
  const { bytes } = wal([60]);
  const systemId = String(SYSTEM);
  expect(isOtherSegment(bytes, { address: START, systemId })).toBe(false);
  expect(isOtherSegment(bytes, { address: START + 0x100_0000n, systemId })).toBe(true);
  expect(isOtherSegment(bytes, { address: START, systemId: '1' })).toBe(true);
  expect(isOtherSegment(Buffer.from('of a program that is not known to anybody'), { address: START, systemId })).toBe(
    false,
  );
});
