import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type WalkItem, walk } from '../../src/store/walk.ts';
import { scratchBase } from './helpers.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-walk-'));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(root, { recursive: true });
});

async function walked(): Promise<WalkItem[]> {
  const items: WalkItem[] = [];
  // `fresh` depends on when it is looked at.
  for await (const { path, stat } of walk(root)) items.push({ path, stat: { ...stat!, fresh: false } });
  return items;
}

test('a disk that has to be waited for shows the same tree as one that answers at once', async () => {
  for (const directory of ['a', 'a/deep', 'b']) mkdirSync(join(root, directory));
  for (let i = 0; i < 300; i++) writeFileSync(join(root, 'a', `f${i}`), String(i));
  symlinkSync('a', join(root, 'link'));
  chmodSync(join(root, 'b'), 0o700);
  const atOnce = await walked();
  expect(atOnce).toHaveLength(305);
  let now = 0;
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => {
    now += 1000;
    return now;
  });
  expect(await walked()).toEqual(atOnce);
  // The first batch is slow, so the rest of the directory is left to threads: nobody takes their time.
  expect(clock).toHaveBeenCalledTimes(2);
});
