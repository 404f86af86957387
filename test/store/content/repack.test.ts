import { randomBytes } from 'node:crypto';
import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { packsToRenew } from '../../../src/store/content/repack.ts';
import type { StoredTree } from '../../../src/store/content/stored-tree.ts';
import { type Bench, createBench } from '../helpers.ts';

let bench: Bench;
let previousIndex: string;
beforeEach(() => {
  bench = createBench();
  previousIndex = `${bench.index}-before`;
});
afterEach(() => bench.remove());

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

  const renewed = await packsToRenew(previousIndex, second.packs);
  expect([...renewed]).toEqual(first.packs.map(({ id }) => id));
  const third = await storeAgain(
    second,
    second.packs.filter(({ id }) => !renewed.has(id)),
  );
  expect(third.files).toBe(8);
  expect(third.newFiles).toBe(3);
  expect(third.packs.map(({ id }) => id)).not.toContain(first.packs[0]?.id);
  expect(await packsToRenew(previousIndex, third.packs)).toEqual(new Set());
  const { result } = await bench.extract(third);
  expect(result).toMatchObject({ files: 8 });
});

test('packs that are mostly in use stay, and each run renews a limited amount', async () => {
  for (const name of names(0, 10)) write(name);
  const first = await storeAgain();
  for (const name of names(0, 6)) rmSync(join(bench.tree, name));
  const second = await storeAgain(first);
  expect(await packsToRenew(previousIndex, second.packs)).toEqual(new Set());
  for (const name of names(6, 9)) rmSync(join(bench.tree, name));
  const third = await storeAgain(second);
  expect((await packsToRenew(previousIndex, third.packs)).size).toBe(1);
  expect(await packsToRenew(previousIndex, third.packs, 9_999)).toEqual(new Set());
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
  expect([...(await packsToRenew(previousIndex, second.packs))]).toEqual(first.packs.map(({ id }) => id));
});

test.each([
  ['2,000 tiny files', 2000, 20],
  ['a single byte', 1, 1],
])('headers do not count as unused content: %s', async (_, count, size) => {
  for (const name of names(0, count)) writeFileSync(join(bench.tree, `"${name}" ä`), randomBytes(size));
  const first = await storeAgain();
  expect(await packsToRenew(previousIndex, first.packs)).toEqual(new Set());
  // So the next run stores nothing.
  expect(await storeAgain(first)).toMatchObject({ newFiles: 0, newBytes: 0, unchangedFiles: count });
});

test('a pack of tiny files is renewed once most of them are gone', async () => {
  for (const name of names(0, 200)) writeFileSync(join(bench.tree, name), randomBytes(20));
  const first = await storeAgain();
  for (const name of names(0, 100)) rmSync(join(bench.tree, name));
  const second = await storeAgain(first);
  expect(await packsToRenew(previousIndex, second.packs)).toEqual(new Set());
  for (const name of names(100, 160)) rmSync(join(bench.tree, name));
  const third = await storeAgain(second);
  expect([...(await packsToRenew(previousIndex, third.packs))]).toEqual(first.packs.map(({ id }) => id));
});
