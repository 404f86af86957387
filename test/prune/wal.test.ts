import { beforeEach, describe, expect, test } from 'vitest';
import type { Destination } from '../../src/destinations/destination.ts';
import { listOnce } from '../../src/destinations/list-once.ts';
import { listUnneededWal } from '../../src/prune/wal.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { Signing } from '../../src/store/repository/signing.ts';
import { formatLsn, startOf } from '../../src/store/wal/names.ts';
import { currentLog, isOfUse, neededWal } from '../../src/store/wal/needed.ts';
import { readWalLogs } from '../../src/store/wal/read-log.ts';
import { basesOf, readRecoverable } from '../../src/store/wal/recoverable.ts';
import type { RememberedWal } from '../../src/store/wal/remembered.ts';
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
  // Each page lists the history file, so the first two are not needed for it.
  expect(keys.filter((key) => key.includes('/log/'))).toHaveLength(2);
  for (const key of keys) bench.objects.delete(key);
  const [log] = await readWalLogs(bench.repository, 'db.postgres');
  expect(log?.pages.map(({ page }) => page.page)).toEqual([3]);
  expect([...(log?.histories.keys() ?? [])]).toEqual([history.name]);
  expect(log?.problems).toEqual([]);
});

test('a page that alone lists a history file stays, and so do those after it', async () => {
  await bench.store(1, 700);
  const history = { name: '00000002.history', ancestors: [{ timeline: 1, until: formatLsn(startOf(701, SIZE)) }] };
  const listed = { ...history, ...(await bench.put(history.name)) };
  // An earlier version listed it once.
  for (const [key, text] of bench.objects) {
    if (!/log\/00000002-/.test(key)) continue;
    bench.objects.set(key, JSON.stringify({ ...JSON.parse(text), histories: [listed] }));
  }
  const keys = await unneeded(bench.base(690));
  expect(keys.filter((key) => key.includes('/log/'))).toEqual([expect.stringContaining('log/00000001-')]);
});

describe('a page in the middle', () => {
  const page = (number: number) =>
    [...bench.objects.keys()].find((key) => key.includes(`/log/0000000${number}-`)) ?? '';
  const readAll = (...manifests: Manifest[]) =>
    readRecoverable({ ...bench.repository, snapshots: async () => snapshotsOf(manifests) } as unknown as Repository, {
      source: 'db.postgres',
      base: 'db.postgres.base',
    });

  test.each(['damaged', 'gone'])('that is %s keeps all WAL while a base backup is as old', async (how) => {
    await bench.store(1, 600);
    if (how === 'gone') bench.objects.delete(page(2));
    else bench.objects.set(page(2), 'damaged');
    const [before, within, after] = [bench.base(200), bench.base(300), bench.base(530)];
    for (const manifests of [[before, after], [within, after], [within], []]) {
      expect(await unneeded(...manifests)).toEqual([]);
      expect((await readAll(...manifests)).problems).not.toEqual([]);
    }
    expect((await readAll(after)).problems).toEqual([]);
    const keys = await unneeded(after);
    expect(keys).toEqual(expect.arrayContaining(segments(1, 529)));
    expect(keys).not.toContain(keyOf(nameOf(530)));
    for (const key of keys) bench.objects.delete(key);
    const [log] = await readWalLogs(bench.repository, 'db.postgres');
    expect([log?.pages.length, log?.problems, log?.segments.size]).toEqual([1, [], 71]);
  });

  test('that is damaged after the first needed one keeps all WAL', async () => {
    await bench.store(1, 600);
    bench.objects.set(page(2), 'damaged');
    // The first segment of the base backup is in the page before.
    expect(await unneeded(bench.base(256))).toEqual([]);
  });
});

test('the end of a log that somebody removed keeps all WAL of its server', async () => {
  await bench.store(1, 300);
  const logged = { destination: 'memory', page: 2, revision: 44 };
  for (const key of bench.objects.keys()) if (key.includes('/log/00000002-')) bench.objects.delete(key);
  const found = async (remembered: RememberedWal | undefined) => {
    const keys: string[] = [];
    for await (const { key } of listUnneededWal(bench.repository, [bench.base(200)], async () => remembered))
      keys.push(key);
    return keys.length;
  };
  expect(await found({ systemId: SYSTEM, logged })).toBe(0);
  // Segments up to the base backup, and those that only the removed page listed.
  expect(await found(undefined)).toBe(199 + 44);
  expect(await found({ systemId: SYSTEM, logged: { ...logged, destination: 'another' } })).toBe(199 + 44);
  for (const key of bench.objects.keys()) if (key.includes('/log/')) bench.objects.delete(key);
  expect(await found({ systemId: SYSTEM, logged })).toBe(0);
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

describe('a server with a second history', () => {
  const beginAnew = async (at: string) => {
    bench.at = at;
    const why = 'it went back';
    await (await bench.open()).beginAnew({ at, timeline: 1, to: formatLsn(startOf(4, SIZE)), why });
  };
  const pages = () => [...bench.objects.keys()].filter((key) => key.includes('/log/'));

  test('keeps the WAL of the second one for its first base backup, also if the clock was set back', async () => {
    await bench.store(1, 3);
    const before = bench.base(1);
    await beginAnew('2026-11-20T01:00:00.000Z');
    await bench.storeAs('new', 4, 5);
    const logs = await readWalLogs(bench.repository, 'db.postgres');
    expect(currentLog(logs)).toBe(logs[1]);
    const { objects } = logs[1] ? neededWal(logs[1], [], currentLog(logs) === logs[1]) : { objects: [] };
    expect(objects).toHaveLength(2);
    expect((await unneeded(before)).filter((key) => logs[1]?.pages.some((one) => one.key === key))).toEqual([]);
  });

  test('keeps what a base backup of the first one needs, also if the clock was set back to a time before it', async () => {
    await bench.store(1, 3);
    const before = bench.base(2, { era: 1 });
    await beginAnew('2026-11-20T01:00:00.000Z');
    await bench.storeAs('new', 4, 5);
    const after = bench.base(4, { era: 2 });
    expect(await unneeded(before, after)).toEqual([keyOf(nameOf(1))]);
    expect(await unneeded(before)).toEqual([keyOf(nameOf(1))]);
    expect(await unneeded(after)).toEqual(segments(1, 3));
  });

  test.each(['has', 'has no'])('a damaged page of the first one, which %s base backup', async (has) => {
    await bench.store(1, 256);
    await bench.store(257, 258);
    const old = bench.base(200);
    const [damaged = ''] = pages().slice(-1);
    bench.objects.set(damaged, 'damaged');
    await beginAnew('2026-11-20T04:00:00.000Z');
    await bench.storeAs('new', 259, 300);
    const now = bench.base(270);
    const manifests = has === 'has' ? [old, now] : [now];
    const { problems } = await readRecoverable(
      { ...bench.repository, snapshots: async () => snapshotsOf(manifests) } as unknown as Repository,
      { source: 'db.postgres', base: 'db.postgres.base' },
    );
    const keys = await unneeded(...manifests);
    if (has === 'has') {
      expect(problems).toMatchObject([{ code: 'OBJECT_DAMAGED' }]);
      expect(keys).toEqual([]);
      return;
    }
    expect(problems).toEqual([]);
    expect(keys).toContain(damaged);
    expect(keys).toContain(keyOf(nameOf(1)));
    for (const key of keys) bench.objects.delete(key);
    // The page is gone, and the second history is whole.
    const logs = await readWalLogs(bench.repository, 'db.postgres');
    expect(
      logs.flatMap((log) => (isOfUse(log, logs, basesOf(manifests, 'db.postgres.base')) ? log.problems : [])),
    ).toEqual([]);
    expect(logs.at(-1)?.segments.size).toBe(31);
    expect(await unneeded(...manifests)).toEqual([]);
  });

  test('pages that cannot be read before the first known history are no problem of a later one', async () => {
    await bench.store(1, 3);
    const old = bench.base(1);
    for (const key of pages()) bench.objects.set(key, 'damaged');
    await beginAnew('2026-11-20T04:00:00.000Z');
    await bench.storeAs('new', 4, 5);
    const now = bench.base(4);
    const [before, after] = await readWalLogs(bench.repository, 'db.postgres');
    expect(before?.problems).toMatchObject([{ error: { code: 'OBJECT_DAMAGED' } }]);
    expect(after?.problems).toEqual([]);
    expect(await unneeded(old, now)).toEqual([]);
    expect(await unneeded(now)).toHaveLength(4);
  });
});

const snapshotsOf = (manifests: Manifest[]) => ({
  snapshots: manifests.map((manifest) => ({ manifest })),
  damaged: [],
});
