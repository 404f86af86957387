import { expect, test } from 'vitest';
import { readDirectory } from '../../src/overview/browse.ts';
import type { IndexEntry } from '../../src/store/filesystem/index-file.ts';
import { comparePaths } from '../../src/store/filesystem/path.ts';

const entry = (path: string, type: IndexEntry['type'] = 'file', size = 1): IndexEntry => ({
  ...{ path, type, mode: 0o644, uid: 0, gid: 0, mtime: 0n },
  ...(type === 'file' ? { size } : {}),
});

async function* stream(entries: IndexEntry[]): AsyncGenerator<IndexEntry> {
  yield* entries.toSorted((a, b) => comparePaths(a.path, b.path));
}

const tree = [
  ...[entry('', 'directory'), entry('a', 'directory'), entry('a-b'), entry('a.txt'), entry('a/deep', 'directory')],
  ...[entry('a/deep/one', 'file', 10), entry('a/two', 'file', 5), entry('a/link', 'symlink'), entry('z', 'file', 7)],
  entry('a/deep/again', 'hardlink'),
];
const page = { after: 0, most: 100 };
const names = (found: Awaited<ReturnType<typeof readDirectory>>) =>
  found.children.map(({ name, bytes, files }) => `${name} ${bytes} ${files}`);

test('a directory has its names, and the sums of its directories', async () => {
  const root = await readDirectory(stream(tree), '', page);
  // `a` is before `a-b` and `a.txt`, as in the index.
  expect(names(root)).toEqual(['a 15 3', 'a-b 1 0', 'a.txt 1 0', 'z 7 0']);
  expect(root).toMatchObject({ total: 4, found: true });
  expect(names(await readDirectory(stream(tree), 'a', page))).toEqual(['deep 10 2', 'link 0 0', 'two 5 0']);
});

test('a name that begins like the directory is not in it', async () => {
  expect(names(await readDirectory(stream([...tree, entry('ab', 'directory'), entry('ab/x')]), 'a', page))).toEqual([
    ...['deep 10 2', 'link 0 0', 'two 5 0'],
  ]);
});

test('pages follow each other', async () => {
  const second = await readDirectory(stream(tree), '', { after: 2, most: 1 });
  expect(names(second)).toEqual(['a.txt 1 0']);
  expect(second.total).toBe(4);
});

test('a file and a missing name are no directory', async () => {
  expect((await readDirectory(stream(tree), 'z', page)).found).toBe(false);
  expect((await readDirectory(stream(tree), 'missing', page)).found).toBe(false);
});

test('reading ends after the directory, also an empty one, and when the reader leaves', async () => {
  let read = 0;
  async function* counted(): AsyncGenerator<IndexEntry> {
    yield entry('', 'directory');
    yield entry('a', 'directory');
    for (let i = 0; i < 1000; i++, read++) yield entry(`b${String(i).padStart(7, '0')}`);
  }
  expect(await readDirectory(counted(), 'a', page)).toMatchObject({ found: true, total: 0 });
  expect(read).toBe(0);
  const left = new AbortController();
  async function* leaving(): AsyncGenerator<IndexEntry> {
    for await (const one of counted()) {
      if (read === 10) left.abort(new Error('gone'));
      yield one;
    }
  }
  await expect(readDirectory(leaving(), '', { ...page, signal: left.signal })).rejects.toThrow('gone');
  expect(read).toBe(10);
});

test('a directory of a million names is read without holding it', async () => {
  async function* many(): AsyncGenerator<IndexEntry> {
    yield entry('', 'directory');
    for (let i = 0; i < 200_000; i++) yield entry(String(i).padStart(7, '0'));
  }
  const found = await readDirectory(many(), '', { after: 150_000, most: 3 });
  expect(found.total).toBe(200_000);
  expect(found.children.map(({ name }) => name)).toEqual(['0150000', '0150001', '0150002']);
});
