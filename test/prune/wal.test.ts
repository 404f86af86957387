import { beforeEach, expect, test } from 'vitest';
import type { Destination } from '../../src/destinations/destination.ts';
import { listOnce } from '../../src/destinations/list-once.ts';
import { listUnneededWal } from '../../src/prune/wal.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import { Signing } from '../../src/store/repository/signing.ts';
import { formatLsn, startOf } from '../../src/store/wal/names.ts';
import { readWalLogs } from '../../src/store/wal/read-log.ts';
import { WalWriter } from '../../src/store/wal/write-log.ts';
import { keyOf, nameOf, SIZE, SYSTEM, WalBench } from '../store/wal/bench.ts';

let bench: WalBench;
beforeEach(() => {
  bench = new WalBench();
});

const unneeded = async (...manifests: Manifest[]) => {
  const keys: string[] = [];
  for await (const { key } of listUnneededWal(bench.repository, manifests)) keys.push(key);
  return keys.sort();
};
const segments = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => keyOf(nameOf(from + i)));

test('WAL before the oldest base backup goes, and none that it needs', async () => {
  await bench.store(1, 9);
  expect(await unneeded(bench.base(4), bench.base(7))).toEqual(segments(1, 3));
  expect(await unneeded(bench.base(1))).toEqual([]);
});

test('WAL that is stored after the listing of a prune keeps nothing that base backups do not need', async () => {
  await bench.store(1, 9);
  const destination = listOnce(bench.destination, 'shop/');
  for await (const _ of destination.list('shop/'));
  await bench.store(10, 11);
  const keys: string[] = [];
  for await (const { key } of listUnneededWal({ ...bench.repository, destination }, [bench.base(4)])) keys.push(key);
  expect(keys.filter((key) => !key.includes('/log/'))).toEqual(segments(1, 3));
});

test('a page that is replaced while the log is read is no damage', async () => {
  await bench.store(1, 9);
  let replaced = 0;
  const destination: Destination = {
    ...bench.destination,
    async get(key, options) {
      if (key.includes('/log/') && replaced++ === 0) await bench.store(10, 10);
      return bench.destination.get(key, options);
    },
  };
  const [log] = await readWalLogs({ ...bench.repository, destination }, 'db.postgres');
  expect(log?.problems).toEqual([]);
  expect(log?.segments.size).toBe(10);
});

test('a base backup that failed needs no WAL', async () => {
  await bench.store(1, 9);
  expect(await unneeded(bench.base(2, { status: 'failed' }), bench.base(7))).toEqual(segments(1, 6));
});

test('WAL of a server without a base backup stays while it is the present one: the first may be under way', async () => {
  await bench.store(1, 3, { system: '1' });
  bench.at = '2026-11-21T03:00:00.000Z';
  await bench.store(1, 3);
  const keys = await unneeded(bench.base(2, { system: '1' }));
  expect(keys).toEqual([keyOf(nameOf(1), '1')]);
});

test('WAL of a former server goes with its last base backup', async () => {
  await bench.store(1, 3, { system: '1' });
  bench.at = '2026-11-21T03:00:00.000Z';
  await bench.store(1, 3);
  const keys = await unneeded(bench.base(1));
  expect(keys).toEqual([1, 2, 3].map((number) => keyOf(nameOf(number), '1')));
});

test('both sides of a fork stay while a base backup before it does', async () => {
  await bench.store(1, 9);
  const writer = await bench.open();
  const history = { name: '00000002.history', ancestors: [{ timeline: 1, until: formatLsn(startOf(5, SIZE) + 100n) }] };
  await writer.append({ histories: [{ ...history, ...(await bench.put(history.name)) }] });
  await bench.store(5, 8, { timeline: 2 });
  expect(await unneeded(bench.base(3))).toEqual(segments(1, 2));
  const later = await unneeded(bench.base(7, { timeline: 2 }));
  expect(later).toEqual([...segments(1, 6), keyOf(nameOf(5, 2)), keyOf(nameOf(6, 2))]);
});

test('the beginning of an incomplete segment is needed like a complete one', async () => {
  const left = await bench.storeOpen(2, 5);
  await bench.storeOpen(5, 5);
  expect(await unneeded(bench.base(2))).toEqual([]);
  expect(await unneeded(bench.base(3))).toEqual([left.key]);
  // The segment that is being received always stays.
  expect(await unneeded(bench.base(9))).toEqual([left.key]);
});

test('what no page names goes, and what is no WAL stays', async () => {
  await bench.store(1, 2);
  await bench.put(nameOf(7));
  await bench.destination.put(`shop/wal/db.postgres/${SYSTEM}/00000001/notes.txt`, streamOf('x'));
  expect(await unneeded(bench.base(1))).toEqual([keyOf(nameOf(7))]);
});

test('a damaged page keeps everything of its server', async () => {
  await bench.store(1, 9);
  for (const key of bench.objects.keys()) if (key.includes('/log/')) bench.objects.set(key, 'damaged');
  expect(await unneeded(bench.base(4))).toEqual([]);
});

test('no hole remains in the log: the pages after the first needed one stay', async () => {
  await bench.store(1, 1);
  const history = { name: '00000002.history', ancestors: [{ timeline: 1, until: formatLsn(startOf(2, SIZE)) }] };
  await (await bench.open()).append({ histories: [{ ...history, ...(await bench.put(history.name)) }] });
  await bench.store(2, 700, { timeline: 2 });
  const keys = await unneeded(bench.base(690, { timeline: 2 }));
  expect(keys.filter((key) => key.includes('/log/'))).toEqual([]);
  for (const key of keys) bench.objects.delete(key);
  const [log] = await readWalLogs(bench.repository, 'db.postgres');
  expect(log?.pages.length).toBeGreaterThan(2);
  expect(log?.problems).toEqual([]);
});

test('pages from before the signing key was set go once no base backup is as old', async () => {
  bench.at = '2026-11-19T03:00:00.000Z';
  await bench.store(1, 3);
  const before = bench.base(1);
  const repository = { ...bench.repository, signing: new Signing('one', ['a key of 16 characters']) };
  bench.at = '2026-11-20T03:00:00.000Z';
  const place = { project: 'shop', source: 'db.postgres', systemId: SYSTEM };
  const now = () => new Date(bench.at);
  const writer = await WalWriter.open(repository, { place, segmentSize: SIZE, home: 'here', now });
  await writer.append({ segments: [{ name: nameOf(4), ...(await bench.put(nameOf(4))) }] });
  bench.at = '2026-11-20T03:10:00.000Z';
  const after = bench.base(4);
  const found = async (...manifests: Manifest[]) => {
    const keys: string[] = [];
    for await (const { key } of listUnneededWal(repository, manifests)) keys.push(key);
    return keys.filter((key) => !key.includes('/log/')).sort();
  };
  expect(await found(before, after)).toEqual([]);
  expect(await found(after)).toEqual(segments(1, 3));
});
