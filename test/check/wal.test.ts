import { beforeEach, expect, test } from 'vitest';
import { walToCheck } from '../../src/check/wal.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { keyOf, nameOf, SYSTEM, WalBench } from '../store/wal/bench.ts';

let bench: WalBench;
beforeEach(() => {
  bench = new WalBench();
});
const { signal } = new AbortController();
const look = (...manifests: Manifest[]) => walToCheck(bench.repository, manifests, { signal });
const pageKeys = () => [...bench.objects.keys()].filter((key) => key.includes('/log/'));

test('a check looks at the WAL that base backups need, and not at the segment that is being received', async () => {
  await bench.store(1, 5);
  await bench.storeOpen(6, 5);
  const { objects, problems } = await look(bench.base(3));
  expect(objects.map(({ key }) => key)).toEqual([3, 4, 5].map((number) => keyOf(nameOf(number))));
  expect(problems).toEqual([]);
});

test('a segment that is gone is still looked for', async () => {
  await bench.store(1, 3);
  bench.objects.delete(keyOf(nameOf(2)));
  expect((await look(bench.base(1))).objects.map(({ key }) => key)).toContain(keyOf(nameOf(2)));
});

test('a page that was changed, or put at another place, is a problem', async () => {
  await bench.store(1, 3);
  const [key = ''] = pageKeys();
  const page = bench.objects.get(key) as string;
  bench.objects.set(key.replace('00000001-', '00000002-'), page);
  expect((await look(bench.base(1))).problems).toMatchObject([{ error: { code: 'OBJECT_DAMAGED' } }]);
  bench.objects.set(key, page.slice(0, 100));
  expect((await look(bench.base(1))).problems).toHaveLength(2);
});

test('without base backups, nothing is requested', async () => {
  bench.destination.list = () => {
    throw new Error('requested');
  };
  expect(await look()).toEqual({ objects: [], problems: [] });
});

test('a newest page that was removed is noticed, although no other page names it', async () => {
  await bench.store(1, 5);
  await bench.storeOpen(6, 5);
  const logged = (await bench.open()).end;
  const remembered = async () => ({ systemId: SYSTEM, logged });
  const check = () => walToCheck(bench.repository, [bench.base(3)], { signal, remembered });
  expect((await check()).problems).toEqual([]);
  const newest = pageKeys().at(-1) as string;
  bench.objects.delete(newest);
  expect((await check()).problems).toMatchObject([{ error: { code: 'CHAIN_BROKEN' } }]);
  expect((await look(bench.base(3))).problems).toEqual([]);
});

test('a page that is stored while the log is read is not missing', async () => {
  await bench.store(1, 5);
  const { get } = bench.destination;
  bench.destination.get = async (key, options) => {
    const object = await get(key, options);
    bench.destination.get = get;
    await bench.store(6, 6);
    return object;
  };
  const remembered = async () => ({ systemId: SYSTEM, logged: (await bench.open()).end });
  const { problems } = await walToCheck(bench.repository, [bench.base(3)], { signal, remembered });
  expect(problems).toEqual([]);
});
