import { describe, expect, test } from 'vitest';
import { startOf } from '../../../src/store/wal/names.ts';
import { readWalLogs } from '../../../src/store/wal/read-log.ts';
import { RecordScanner } from '../../../src/store/wal/records.ts';
import { findFirst, findLast, recordAround, type StoredHistoryOf } from '../../../src/store/wal/scan-stored.ts';
import { nameOf, SIZE, WalBench } from './bench.ts';
import { WalBytes } from './wal-bytes.ts';

const { signal } = new AbortController();

/** Stores WAL from segment 3 on, and returns what reads it. */
async function stored(wal: WalBytes, last: number): Promise<StoredHistoryOf> {
  const bench = new WalBench();
  await bench.store(3, last, { content: (number) => wal.segment(number) });
  const [log] = await readWalLogs(bench.repository, 'db.postgres');
  if (!log) throw new Error('no log');
  return { repository: bench.repository, log, timeline: 1, signal };
}

describe('the records of the WAL', () => {
  test('are found in chunks of any size, with those that continue on other pages', () => {
    const wal = new WalBytes(3);
    const sizes = [1, 40, 9000, 255, 256, 30_000, 8, 8192, 8100];
    const expected = sizes.map((size, xid) => ({ at: wal.add({ xid, data: Buffer.alloc(size) }).at, xid }));
    const bytes = wal.segment(3);
    for (const chunk of [1, 24, 8192, 10_000, SIZE]) {
      const found: { at: bigint; xid: number }[] = [];
      const scanner = new RecordScanner(startOf(3, SIZE), ({ at, xid }) => void found.push({ at, xid }));
      for (let at = 0; at < 70_000; at += chunk) scanner.add(bytes.subarray(at, Math.min(at + chunk, 70_000)));
      expect(scanner.end()).toBeUndefined();
      expect(found).toEqual(expected);
    }
  });

  test('end where the server has written nothing more, and in WAL of another place', () => {
    const found: bigint[] = [];
    const scanner = new RecordScanner(0n, ({ at }) => void found.push(at));
    const other = new WalBytes(3);
    other.add({});
    scanner.add(other.segment(3).subarray(0, 3 * 8192));
    scanner.add(Buffer.alloc(8192));
    expect(scanner.end()).toBeUndefined();
    expect(found).toEqual([]);
  });
});

describe('the record around a position', () => {
  test('is none between records, and the one that ends later otherwise', async () => {
    const wal = new WalBytes(3);
    const records = [60, 9000, 40, 20_000].map((size) => wal.add({ data: Buffer.alloc(size) }));
    const from = await stored(wal, 3);
    for (const { at, end } of records) {
      expect(await recordAround(from, at)).toBeUndefined();
      expect(await recordAround(from, end)).toBeUndefined();
      for (const inside of [at + 8n, at + 24n, at + 50n, end - 8n]) expect(await recordAround(from, inside)).toBe(at);
    }
  });

  test('may have begun in an earlier segment, and end at the beginning of one', async () => {
    const wal = new WalBytes(3);
    wal.add({});
    const long = wal.add({ data: Buffer.alloc(2 * SIZE) });
    wal.add({});
    const from = await stored(wal, 5);
    for (const number of [4, 5]) {
      expect(await recordAround(from, startOf(number, SIZE))).toBe(long.at);
      expect(await recordAround(from, startOf(number, SIZE) + 5000n)).toBe(long.at);
    }
    expect(await recordAround(from, long.end)).toBeUndefined();
  });
});

describe('the last record that matches', () => {
  test('is found from the end on, also across the border of two segments', async () => {
    const wal = new WalBytes(3);
    const first = wal.add({ xid: 7 });
    wal.fillTo(startOf(4, SIZE) - 16n);
    const border = wal.add({ xid: 7 });
    expect([border.at < startOf(4, SIZE), border.end > startOf(4, SIZE)]).toEqual([true, true]);
    wal.add({ xid: 8 });
    wal.fillTo(startOf(5, SIZE) + 1000n);
    const from = await stored(wal, 5);
    const all = { from: startOf(3, SIZE), to: startOf(6, SIZE) };
    const xid = (wanted: number) => (record: { xid: number }) => (record.xid === wanted ? wanted : undefined);
    expect((await findLast(from, all, xid(7))).found).toEqual({ at: border.at, what: 7 });
    expect((await findLast(from, { ...all, to: border.at }, xid(7))).found).toEqual({ at: first.at, what: 7 });
    expect((await findLast(from, { ...all, from: first.at + 8n, to: border.at }, xid(7))).found).toBeUndefined();
    const none = await findLast(from, all, xid(9));
    expect(none.found).toBeUndefined();
    expect(none.records).toBeGreaterThan(200);
  });
});

describe('parts of a segment that the receiver replaces after the log was read', () => {
  /** Stores half of segment 4 in two parts, and reads the log. Returns the records of that half, and what reads it. */
  async function half() {
    const wal = new WalBytes(3);
    wal.fillTo(startOf(4, SIZE) + 1000n);
    const records = Array.from({ length: 60 }, (_, xid) => wal.add({ xid, data: Buffer.alloc(8000) }));
    const bench = new WalBench();
    await bench.store(3, 3, { content: (number) => wal.segment(number) });
    const part = async (from: number, to: number) => ({
      ...{ from, to },
      ...(await bench.put(`${nameOf(4)}.${to}`, undefined, wal.segment(4).subarray(from, to))),
    });
    const [first, second] = [await part(0, SIZE / 4), await part(SIZE / 4, SIZE / 2)];
    const writer = await bench.open();
    await writer.append({ open: { name: nameOf(4), parts: [first, second] } });
    const [log] = await readWalLogs(bench.repository, 'db.postgres');
    if (!log) throw new Error('no log');
    const from: StoredHistoryOf = { repository: bench.repository, log, timeline: 1, signal };
    return { wal, bench, records, first, second, from, writer };
  }

  test('are found where the log lists them now', async () => {
    const { wal, bench, records, first, second, from, writer } = await half();
    const last = records[55]!;
    expect(last.end).toBeLessThan(startOf(4, SIZE) + BigInt(SIZE / 2));
    // Only the second part is gone when the first one was read.
    const whole = await bench.put(nameOf(4), undefined, wal.segment(4));
    await writer.append({ segments: [{ name: nameOf(4), ...whole }] });
    bench.objects.delete(second.key);
    expect(await recordAround(from, last.at + 50n)).toBe(last.at);
    bench.objects.delete(first.key);
    expect(await recordAround(from, last.at + 50n)).toBe(last.at);
    const span = { from: startOf(3, SIZE), to: last.end };
    const match = ({ xid, manager }: { xid: number; manager: number }) =>
      manager === 10 && xid === 55 ? xid : undefined;
    expect((await findLast(from, span, match)).found).toEqual({ at: last.at, what: 55 });
    expect((await findFirst(from, span, match)).found).toEqual({ at: last.at, what: 55 });
  });

  test('that nothing replaces are missing', async () => {
    const { bench, records, second, from } = await half();
    bench.objects.delete(second.key);
    bench.objects.delete(from.log.partials.get(nameOf(4))!.parts[0]!.key);
    await expect(recordAround(from, records[55]!.at + 50n)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  });
});
