import { beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { copyWal } from '../../src/copy/wal.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import { readWalLogs } from '../../src/store/wal/read-log.ts';
import { keyOf, nameOf, WalBench } from '../store/wal/bench.ts';

let main: WalBench;
let copy: WalBench;
let report: { objects: number; bytes: number };
beforeEach(() => {
  main = new WalBench();
  copy = new WalBench();
  report = { objects: 0, bytes: 0 };
});

const run = (manifests: Manifest[]) => {
  const { signal } = new AbortController();
  const copying = { from: main.repository, to: copy.repository, report, signal, alive: () => undefined };
  return copyWal(
    copying,
    manifests.map((manifest) => ({ manifest })),
  );
};
const names = async () => {
  const [log] = await readWalLogs(copy.repository, 'db.postgres');
  expect(log?.problems ?? []).toEqual([]);
  return log?.wal.segments.map(({ name }) => name);
};
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => nameOf(from + i));

test('a copy gets the WAL that its base backups need, then only what is new', async () => {
  await main.store(1, 6);
  await main.storeOpen(7, 5);
  expect(await run([main.base(3)])).toBeUndefined();
  expect(await names()).toEqual(range(3, 6));
  expect(copy.objects.get(keyOf(nameOf(4)))).toBe(nameOf(4));
  expect(report.objects).toBe(5);
  await main.store(7, 8);
  await run([main.base(3)]);
  expect(report.objects).toBe(7);
  expect(await names()).toEqual(range(3, 8));
  // One revision of the page.
  expect([...copy.objects.keys()].filter((key) => key.includes('/log/'))).toHaveLength(1);
});

test('without base backups, nothing is requested', async () => {
  await main.store(1, 3);
  const volume = { id: 'x', sources: { 'web.media': { kind: 'volume', status: 'ok' } } } as unknown as Manifest;
  main.destination.list = () => {
    throw new Error('requested');
  };
  expect(await run([volume])).toBeUndefined();
  expect(copy.objects.size).toBe(0);
});

test('a damaged segment is reported and not copied, and the others are', async () => {
  await main.store(1, 4);
  main.objects.set(keyOf(nameOf(2)), 'x'.repeat(nameOf(2).length));
  expect(await run([main.base(1)])).toMatchObject({ code: 'OBJECT_DAMAGED' });
  expect(await names()).toEqual([1, 3, 4].map((number) => nameOf(number)));
});

test('a part that is replaced meanwhile is no error', async () => {
  await main.store(1, 2);
  const part = await main.storeOpen(3, 5);
  const get = main.destination.get.bind(main.destination);
  let later = false;
  main.destination.get = async (key, options) => {
    if (key === part.key && !later) {
      later = true;
      await main.storeOpen(3, 9);
    }
    return get(key, options);
  };
  expect(await run([main.base(1)])).toBeUndefined();
  expect(later).toBe(true);
  const [log] = await readWalLogs(copy.repository, 'db.postgres');
  expect(log?.wal.partials).toMatchObject([{ to: 9 }]);
});

test('an object that is cut short in the copy is sent again', async () => {
  await main.store(1, 2);
  copy.objects.set(keyOf(nameOf(1)), 'x');
  expect(await run([main.base(1)])).toBeUndefined();
  expect(copy.objects.get(keyOf(nameOf(1)))).toBe(nameOf(1));
});

test('a page that is replaced meanwhile takes nothing from the copy', async () => {
  await main.store(1, 2);
  await run([main.base(1)]);
  await main.store(3, 3);
  const get = main.destination.get.bind(main.destination);
  const [page] = [...main.objects.keys()].filter((key) => key.includes('/log/'));
  let reads = 0;
  main.destination.get = async (key, options) => {
    // The first read lists the log, the second one copies the page.
    if (key === page && ++reads === 2) await main.store(4, 4);
    return get(key, options);
  };
  expect(await run([main.base(1)])).toBeUndefined();
  expect(reads).toBeGreaterThan(1);
  expect(await names()).toEqual(range(1, 4));
});

test('a page that is damaged when it is copied is reported, and its earlier revision stays', async () => {
  await main.store(1, 2);
  await run([main.base(1)]);
  await main.store(3, 3);
  const get = main.destination.get.bind(main.destination);
  const [page = ''] = [...main.objects.keys()].filter((key) => key.includes('/log/'));
  let reads = 0;
  main.destination.get = async (key, options) => {
    if (key === page && ++reads === 2) main.destination.get = get;
    if (key === page && reads === 2) throw new LifeboatError('OBJECT_DAMAGED', 'it cannot be read');
    return get(key, options);
  };
  expect(await run([main.base(1)])).toMatchObject({ code: 'OBJECT_DAMAGED' });
  expect(await names()).toEqual(range(1, 2));
});

test('a forged page at the source never costs the copy a segment that its own pages name', async () => {
  await main.store(1, 3);
  expect(await run([main.base(1)])).toBeUndefined();
  main = new WalBench();
  await main.store(1, 1);
  const [name, key] = [nameOf(2), keyOf(nameOf(2))];
  const forged = { key, ...(await main.destination.put(key, streamOf('other content'))) };
  await (await main.open()).append({ segments: [{ name, ...forged }] });
  expect(await run([main.base(1)])).toMatchObject({ code: 'OBJECT_DAMAGED' });
  expect(copy.objects.get(key)).toBe(name);
});
