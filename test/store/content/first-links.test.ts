import { expect, test } from 'vitest';
import { FirstLinks } from '../../../src/store/content/storing-job.ts';
import type { FileStat } from '../../../src/store/filesystem/file-stat.ts';

const file = (ino: number, nlink = 2) => ({ dev: 7n, ino: BigInt(ino), nlink, born: 4n }) as FileStat;

test('the line of a first name is found until all names of its file were seen', () => {
  const links = new FirstLinks();
  expect(links.find(file(1, 3))).toBeUndefined();
  links.add(file(1, 3), 4711);
  links.add(file(2), 2 ** 36);
  expect(links.find(file(1, 3))).toBe(4711);
  expect(links.find(file(2))).toBe(2 ** 36);
  links.see(file(1, 3));
  expect(links.find(file(1, 3))).toBe(4711);
  links.see(file(1, 3));
  // A new file may have its inode.
  expect(links.find(file(1, 3))).toBeUndefined();
  links.add(file(1), 9);
  expect(links.find(file(1))).toBe(9);
});

test('a new file with the inode of a deleted one is not another name of it', () => {
  const links = new FirstLinks();
  links.add(file(1), 4711);
  expect(links.find({ ...file(1), born: 5n })).toBeUndefined();
  // Another name, or another owner, changes the ctime.
  expect(links.find({ ...file(1), ctime: 9n, mtime: 9n, size: 9 })).toBe(4711);
  // Not all file systems record when an inode was created.
  const unborn: FileStat = { ...file(2), born: 0n, size: 3, mtime: 8n, ctime: 8n };
  links.add(unborn, 17);
  expect(links.find({ ...unborn, ctime: 9n })).toBe(17);
  expect(links.find({ ...unborn, size: 4 })).toBeUndefined();
  expect(links.find({ ...unborn, mtime: 9n })).toBeUndefined();
});

test('a file that is being read is not read under another name, unless that fails', () => {
  const links = new FirstLinks();
  expect(links.isRead(file(1))).toBe(false);
  expect(links.isRead(file(1))).toBe(true);
  links.wasRead(file(1));
  expect(links.isRead(file(1))).toBe(false);
  links.wasRead(file(1));
  links.add(file(1), 1);
  expect(links.isRead(file(1))).toBe(true);
});

test('files whose other names never appear take less than 50 bytes each', () => {
  const links = new FirstLinks();
  for (let ino = 0; ino < 100_000; ino++) links.add(file(ino), ino * 300);
  const table: Record<string, { byteLength: number }> = Reflect.get(links, 'table');
  const bytes = ['high', 'low', 'values'].reduce((sum, name) => sum + (table[name]?.byteLength ?? Number.NaN), 0);
  expect(bytes).toBeLessThan(50 * 100_000);
  expect(links.find(file(99_999))).toBe(99_999 * 300);
});
