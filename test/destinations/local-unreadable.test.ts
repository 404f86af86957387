import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { ObjectInfo } from '../../src/destinations/destination.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lifeboat-unreadable-'));
  for (const name of ['a', 'b', 'c']) writeFileSync(join(root, name), name);
});
afterEach(() => {
  rmSync(root, { recursive: true });
  vi.restoreAllMocks();
  syncBuiltinESMExports();
});

async function listWith(code: string): Promise<ObjectInfo[]> {
  const real = fs.lstat;
  const failing = async (file: string) => {
    if (file.endsWith('/b')) throw Object.assign(new Error(`${code}: lstat`), { code, errno: -5 });
    return real(file);
  };
  vi.spyOn(fs, 'lstat').mockImplementation(failing as typeof fs.lstat);
  syncBuiltinESMExports();
  const found: ObjectInfo[] = [];
  for await (const object of createLocalDestination({ root }).list('')) found.push(object);
  return found;
}

test.each(['EIO', 'ESTALE', 'EACCES', 'ETIMEDOUT'])(
  'a file that cannot be inspected (%s) is listed without a size, and all others are listed',
  async (code) => {
    expect(await listWith(code)).toMatchObject([
      { key: 'a', size: 1 },
      { key: 'b', size: undefined, unread: { code: 'DEST_UNREACHABLE', cause: { code } } },
      { key: 'c', size: 1 },
    ]);
  },
);

test('a file that is gone by then is not listed', async () => {
  expect((await listWith('ENOENT')).map(({ key }) => key)).toEqual(['a', 'c']);
});
