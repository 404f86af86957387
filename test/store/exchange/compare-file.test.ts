import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { compareFile } from '../../../src/store/exchange/compare-file.ts';
import { rangesText } from '../../../src/store/filesystem/data-ranges.ts';
import type { IndexEntry } from '../../../src/store/filesystem/index-file.ts';
import { scratchBase } from '../helpers.ts';

let root: string;
const name = 'Caddyfile é';
const file = () => path.join(root, name);
beforeEach(() => {
  root = mkdtempSync(path.join(scratchBase, 'lifeboat-file-'));
  writeFileSync(file(), 'reverse_proxy app:80\n'.repeat(10));
});
afterEach(() => rmSync(root, { recursive: true }));

/** Returns the index of the file as it is now. */
function entries(more: Partial<IndexEntry> = {}): IndexEntry[] {
  const { uid, gid, mode, size, mtimeNs } = statSync(file(), { bigint: true });
  const own = { uid: Number(uid), gid: Number(gid) };
  const sha256 = createHash('sha256').update(readFileSync(file())).digest('hex');
  const entry = { type: 'file', ...own, mode: Number(mode & 0o7777n), size: Number(size), mtime: mtimeNs, sha256 };
  const top = { path: '', type: 'directory', ...own, mode: 0o755, mtime: 0n };
  return [top, { path: 'any name', ...entry, ...more }] as IndexEntry[];
}

async function compare(index: IndexEntry[]) {
  return compareFile({
    root,
    name,
    index: (async function* () {
      yield* index;
    })(),
  });
}

describe('a single mounted file', () => {
  test('is equal whatever its times are', async () => {
    const index = entries();
    utimesSync(file(), 1, 1);
    expect(await compare(index)).toEqual({ isEqual: true, isDatabase: false });
  });

  test.each<[string, () => void]>([
    ['other content of the same size', () => writeFileSync(file(), 'reverse_proxy app:81\n'.repeat(10))],
    ['more content', () => writeFileSync(file(), 'x', { flag: 'a' })],
    ['another mode', () => chmodSync(file(), 0o600)],
  ])('with %s differs', async (_, change) => {
    chmodSync(file(), 0o644);
    const index = entries();
    change();
    expect(await compare(index)).toEqual({ isEqual: false, isDatabase: false });
  });

  test('with another owner differs', async () => {
    expect(await compare(entries({ uid: 4711 }))).toMatchObject({ isEqual: false });
    expect(await compare(entries({ gid: 4711 }))).toMatchObject({ isEqual: false });
  });

  test('differs from a snapshot without it, and from one of a directory', async () => {
    const [top, only] = entries() as [IndexEntry, IndexEntry];
    expect(await compare([top])).toMatchObject({ isEqual: false });
    expect(await compare([top, only, { ...only, path: 'second' }])).toMatchObject({ isEqual: false });
    expect(await compare(entries({ type: 'symlink' }))).toMatchObject({ isEqual: false });
  });

  test('with holes is equal, and differs if a byte is in a hole now', async () => {
    const MIB = 1024 ** 2;
    const [before, end] = [Buffer.alloc(4096, 'begin'), Buffer.alloc(4096, 'end')];
    const write = () => {
      const fd = openSync(file(), 'w');
      writeSync(fd, before, 0, before.length, 0);
      writeSync(fd, end, 0, end.length, 8 * MIB);
      closeSync(fd);
    };
    write();
    const ranges = [0, before.length, 8 * MIB, end.length];
    const sha256 = createHash('sha256').update(before).update(end).update(rangesText(ranges)).digest('hex');
    const index = entries({ ranges, sparse: true, sha256 });
    expect(await compare(index)).toEqual({ isEqual: true, isDatabase: false });
    const fd = openSync(file(), 'r+');
    writeSync(fd, Buffer.from('x'), 0, 1, 4 * MIB);
    closeSync(fd);
    expect(await compare(index)).toEqual({ isEqual: false, isDatabase: false });
  });

  test('that is gone is an error with the reason', async () => {
    const index = entries();
    rmSync(file());
    await expect(compare(index)).rejects.toMatchObject({
      code: 'TREE_UNREADABLE',
      message: expect.stringContaining('ENOENT'),
    });
  });

  test.each([
    ['delete', true],
    ['wal', false],
  ])(
    'that is an SQLite database in mode %s: equal is %s, because its log may be out of reach',
    async (mode, isEqual) => {
      rmSync(file());
      const database = new DatabaseSync(file());
      database.exec(`PRAGMA journal_mode = ${mode}; CREATE TABLE t (i int)`);
      database.close();
      expect(await compare(entries({ sqlite: 'x' }))).toEqual({ isEqual, isDatabase: true });
    },
  );
});
