import { randomBytes } from 'node:crypto';
import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { choosePacksToRenew, measureUse, renewalRule } from '../../../src/store/content/repack.ts';
import type { StoredTree } from '../../../src/store/content/stored-tree.ts';
import { type Bench, createBench } from '../helpers.ts';

let bench: Bench;
let previousIndex: string;
beforeEach(() => {
  bench = createBench();
  previousIndex = `${bench.index}-before`;
});
afterEach(() => bench.remove());

/** Returns the ids of the packs to renew. `older`: how many bytes older snapshots use of each pack. */
async function packsToRenew(
  packs: StoredTree['packs'],
  {
    maxUnused = 0.05,
    atOnce,
    older = new Map(),
  }: { maxUnused?: number; atOnce?: number; older?: Map<string, number> } = {},
): Promise<Set<string>> {
  const use = await measureUse(previousIndex);
  const used = packs.map((pack) => ({ ...pack, used: use.get(pack.id) }));
  return (await choosePacksToRenew(used, async () => older, renewalRule(maxUnused), atOnce)).ids;
}

const write = (name: string) => writeFileSync(join(bench.tree, name), randomBytes(10_000));
const names = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `file-${from + i}`);

/** Stores the tree, reusing the packs in `packs`, and keeps the index for the next time. */
async function storeAgain(before?: StoredTree, packs = before?.packs): Promise<StoredTree> {
  const stored = await bench.storeAfterTick(packs ? { previous: { indexPath: previousIndex, packs } } : {});
  const { copyFileSync } = await import('node:fs');
  copyFileSync(bench.index, previousIndex);
  return stored;
}

test('files in a mostly unused pack are stored again, and the pack is no longer used', async () => {
  for (const name of names(0, 20)) write(name);
  const first = await storeAgain();
  for (const name of names(0, 17)) rmSync(join(bench.tree, name));
  for (const name of names(20, 25)) write(name);
  const second = await storeAgain(first);
  expect(second.packs).toHaveLength(2);

  const renewed = await packsToRenew(second.packs);
  expect([...renewed]).toEqual(first.packs.map(({ id }) => id));
  const third = await storeAgain(
    second,
    second.packs.filter(({ id }) => !renewed.has(id)),
  );
  expect(third.files).toBe(8);
  expect(third.newFiles).toBe(3);
  expect(third.packs.map(({ id }) => id)).not.toContain(first.packs[0]?.id);
  expect(await packsToRenew(third.packs)).toEqual(new Set());
  const { result } = await bench.extract(third);
  expect(result).toMatchObject({ files: 8 });
});

test('packs that are mostly in use stay, and each run renews a limited amount', async () => {
  for (const name of names(0, 10)) write(name);
  const first = await storeAgain();
  for (const name of names(0, 1)) rmSync(join(bench.tree, name));
  const second = await storeAgain(first);
  expect(await packsToRenew(second.packs)).toEqual(new Set());
  for (const name of names(1, 9)) rmSync(join(bench.tree, name));
  const third = await storeAgain(second);
  expect((await packsToRenew(third.packs)).size).toBe(1);
  expect(await packsToRenew(third.packs, { atOnce: 9_999 })).toEqual(new Set());
});

test('holes do not count as used content', async () => {
  for (const name of names(0, 20)) write(name);
  const first = await storeAgain();
  for (const name of names(0, 17)) rmSync(join(bench.tree, name));
  // One block of 64 MiB is stored.
  write('sparse');
  truncateSync(join(bench.tree, 'sparse'), 64 * 1024 * 1024);
  const second = await storeAgain(first);
  expect(second.bytes).toBeGreaterThan(60 * 1024 * 1024);
  expect([...(await packsToRenew(second.packs))]).toEqual(first.packs.map(({ id }) => id));
});

test.each([
  ['2,000 tiny files', 2000, 20],
  ['a single byte', 1, 1],
])('headers do not count as unused content: %s', async (_, count, size) => {
  for (const name of names(0, count)) writeFileSync(join(bench.tree, `"${name}" ä`), randomBytes(size));
  const first = await storeAgain();
  expect(await packsToRenew(first.packs)).toEqual(new Set());
  // So the next run stores nothing.
  expect(await storeAgain(first)).toMatchObject({ newFiles: 0, newBytes: 0, unchangedFiles: count });
});

test('a pack of tiny files is renewed once most of them are gone', async () => {
  for (const name of names(0, 200)) writeFileSync(join(bench.tree, name), randomBytes(20));
  const first = await storeAgain();
  for (const name of names(0, 30)) rmSync(join(bench.tree, name));
  const second = await storeAgain(first);
  expect(await packsToRenew(second.packs)).toEqual(new Set());
  for (const name of names(30, 160)) rmSync(join(bench.tree, name));
  const third = await storeAgain(second);
  expect([...(await packsToRenew(third.packs))]).toEqual(first.packs.map(({ id }) => id));
});

test('a pack that an older snapshot uses stays, because storing its content again would free nothing', async () => {
  for (const name of names(0, 10)) write(name);
  const first = await storeAgain();
  const all = await measureUse(previousIndex);
  for (const name of names(0, 6)) rmSync(join(bench.tree, name));
  const { packs } = await storeAgain(first);
  expect(await packsToRenew(packs, { older: all })).toEqual(new Set());
  // It uses half of the pack.
  const less = new Map([...all].map(([id, bytes]) => [id, bytes / 2]));
  expect(await packsToRenew(packs, { older: less })).toEqual(new Set(packs.map(({ id }) => id)));
});

test.each<[string, number, string | undefined, string[]]>([
  ['the emptiest first, until few enough bytes are unused', 0.05, undefined, ['a', 'b']],
  ['fewer with a higher limit', 0.1, undefined, ['a']],
  ['none above the unused share', 0.5, undefined, []],
  ['none if all may be unused', 1, undefined, []],
  ['only those below half in a class with a minimum time', 0.05, 'STANDARD_IA', ['a']],
  ['the same with another class', 0.05, 'GLACIER_IR', ['a']],
  ['all in a class without', 0.05, 'STANDARD', ['a', 'b']],
])('packs to renew: %s', async (_, maxUnused, storageClass, expected) => {
  const pack = (id: string, used: number) => ({ id, size: 100, plainSize: 1000, used });
  // 125 of 400 stored bytes are unused; without `a` 35, and without `b` 5.
  const packs = [pack('b', 700), pack('full', 950), pack('a', 100), pack('whole', 1000)];
  const rule = renewalRule(maxUnused, storageClass);
  const asked: string[][] = [];
  const useOf = async (ids: ReadonlySet<string>) => {
    asked.push([...ids]);
    return new Map<string, number>();
  };
  const { ids, again } = await choosePacksToRenew(packs, useOf, rule);
  expect([...ids]).toEqual(expected);
  expect(again).toBe(packs.filter(({ id }) => expected.includes(id)).reduce((sum, { used }) => sum + used, 0));
  // Other lists are read only if the newest one alone is a reason.
  expect(asked.length).toBe(expected.length > 0 ? 1 : 0);
});

test('nothing is renewed while a list of packs cannot be read', async () => {
  const packs = [{ id: 'a', size: 100, plainSize: 1000, used: 10 }];
  expect((await choosePacksToRenew(packs, async () => undefined, renewalRule(0.05))).ids).toEqual(new Set());
});

test('a list without numbers counts as fully used', async () => {
  const packs = [{ id: 'a', size: 100, plainSize: 1000 }];
  expect((await choosePacksToRenew(packs, async () => new Map(), renewalRule(0.05))).ids).toEqual(new Set());
});

test('very many small packs are merged, the smallest first, even if older snapshots need them', async () => {
  const MIB = 1024 * 1024;
  const packs = (count: number, mib: number, name: string) =>
    Array.from({ length: count }, (_, i) => ({ id: `${name} ${i}`, size: mib * MIB, plainSize: mib * MIB + i }));
  const whole = packs(100, 64, 'large').map((pack) => ({ ...pack, used: pack.plainSize }));
  const small = packs(1001, 1, 'small').map((pack) => ({ ...pack, used: pack.plainSize }));
  const useOf = async () => new Map(small.map(({ id, plainSize }) => [id, plainSize]));
  const choose = (of: typeof small, maxUnused = 0.05) => choosePacksToRenew(of, useOf, renewalRule(maxUnused));
  const { ids, again } = await choose([...whole, ...small].toReversed());
  expect(again).toBeLessThanOrEqual(256 * MIB);
  expect([...ids]).toEqual(small.slice(0, 255).map(({ id }) => id));
  // A few are not worth it, and `LIFEBOAT_MAX_UNUSED=100%` rules it out.
  expect((await choose([...whole, ...small.slice(1)])).ids.size).toBe(0);
  expect((await choose([...whole, ...small], 1)).ids.size).toBe(0);
});
