import { chmodSync, closeSync, mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Directory } from '../../../src/store/filesystem/directory.ts';
import { removePath } from '../../../src/store/filesystem/remove-tree.ts';
import { messageWithoutPath } from '../../../src/store/filesystem/system-error.ts';
import { type WalkItem, walk } from '../../../src/store/filesystem/walk.ts';
import { createBench, scratchBase } from '../helpers.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-walk-'));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await removePath(dirname(root), basename(root));
});

async function walked(): Promise<WalkItem[]> {
  const items: WalkItem[] = [];
  // `fresh` depends on the time of the stat call.
  for await (const { path, stat } of walk(root)) items.push({ path, stat: { ...stat!, fresh: false } });
  return items;
}

test('a slow disk shows the same tree as a fast one', async () => {
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
  // The first batch is slow, so the rest of the directory runs in threads, which are not timed.
  expect(clock).toHaveBeenCalledTimes(2);
});

/** Nested directories with long names, until the path of the last one and its file is too long for a system call. */
function plantTooLong(): void {
  const name = 'n'.repeat(250);
  let at = Directory.open(root);
  for (let length = 0; length < 4500; length += name.length + 1) {
    const next = at.make(name);
    at.close();
    at = next;
  }
  for (const file of ['a', 'b']) closeSync(at.createFile(file));
  at.close();
}

test('paths that are too long for the system are reported once, and everything else is walked', async () => {
  plantTooLong();
  writeFileSync(join(root, 'z'), '');
  const found: WalkItem[] = [];
  for await (const item of walk(root)) found.push(item);
  const wrong = found.filter(({ error }) => error);
  expect(wrong).toHaveLength(1);
  expect(wrong[0]?.error?.message).toContain('4,095 bytes');
  expect(found.at(-1)?.path).toBe('z');
  expect(Math.max(...found.map(({ path }) => path.length))).toBeLessThanOrEqual(4095);
});

test('storing such a tree reports issues in short lines that name no path of a helper', async () => {
  plantTooLong();
  const bench = createBench();
  const stored = await bench.store({ root });
  expect(stored.unreadableCount).toBe(1);
  for (const { path, message, cause } of stored.unreadable) {
    expect(cause).toBe('length');
    expect(path.length).toBeLessThanOrEqual(240);
    expect(message.length).toBeLessThanOrEqual(240);
    expect(message).not.toContain(root);
  }
  bench.remove();
});

test.each([
  ["ENAMETOOLONG: name too long, open '/source/a'", 'ENAMETOOLONG: name too long'],
  ["EACCES: permission denied, scandir '/source/it's, here'", 'EACCES: permission denied'],
  ['EIO: i/o error, read', 'EIO: i/o error, read'],
])('an issue does not repeat its path: %s', (text, said) => {
  expect(messageWithoutPath(Object.assign(new Error(text), { errno: -1 }))).toBe(said);
});

test('a mount of a single file is reported as such, with a hint; a missing mount is not', async () => {
  const file = join(root, 'app.db');
  writeFileSync(file, 'x');
  await expect(walk(file).next()).rejects.toMatchObject({
    code: 'TREE_UNREADABLE',
    message: `the mount is a single file, not a directory: ${file}`,
    hint: expect.stringContaining('Mount the directory that holds the file'),
  });
  for (const missing of [join(root, 'gone'), join(file, 'below')]) {
    await expect(walk(missing).next()).rejects.toMatchObject({
      code: 'TREE_UNREADABLE',
      message: `cannot read the directory ${missing}`,
    });
  }
});
