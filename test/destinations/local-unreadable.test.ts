import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { ObjectInfo } from '../../src/destinations/destination.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';

vi.mock('node:fs/promises', async (importOriginal) => {
  const real = await importOriginal<typeof import('node:fs/promises')>();
  return { ...real, lstat: vi.fn(real.lstat) };
});

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lifeboat-unreadable-'));
  for (const name of ['a', 'b', 'c']) writeFileSync(join(root, name), name);
});
afterEach(() => rmSync(root, { recursive: true }));

async function listWith(code: string): Promise<ObjectInfo[]> {
  vi.mocked(lstat).mockImplementation(async (file, ...rest) => {
    if (String(file).endsWith('/b')) throw Object.assign(new Error(`${code}: lstat`), { code, errno: -5 });
    const { lstat: real } = await vi.importActual<typeof import('node:fs/promises')>('node:fs/promises');
    return real(file, ...rest);
  });
  const found: ObjectInfo[] = [];
  for await (const object of createLocalDestination({ root }).list('')) found.push(object);
  return found;
}

test.each(['EIO', 'ESTALE', 'EACCES', 'ETIMEDOUT'])(
  'a file that cannot be looked at (%s) is listed without a size, and keeps no other from it',
  async (code) => {
    expect(await listWith(code)).toMatchObject([
      { key: 'a', size: 1 },
      { key: 'b', size: undefined, unread: { code: 'DEST_UNREACHABLE', cause: { code } } },
      { key: 'c', size: 1 },
    ]);
  },
);

test('one that is gone by then is not listed', async () => {
  expect((await listWith('ENOENT')).map(({ key }) => key)).toEqual(['a', 'c']);
});
