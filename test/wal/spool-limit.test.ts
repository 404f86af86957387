import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { segmentName } from '../../src/store/wal/names.ts';
import { isSpoolFull } from '../../src/wal/spool-limit.ts';
import { scratchBase } from '../store/helpers.ts';

const SIZE = 64 * 1024 * 1024;
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(scratchBase, 'lifeboat-limit-'));
  mkdirSync(directory, { recursive: true });
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Puts a file that is as large as the limit, and takes no block of the disk. */
function put(number: number, end = ''): void {
  const file = join(directory, `${segmentName({ timeline: 1, number }, SIZE)}${end}`);
  writeFileSync(file, '');
  truncateSync(file, 6 * 1024 ** 3);
}

test('the file that is being received, or the last complete one, does not fill the spool', async () => {
  put(2, '.partial');
  expect(await isSpoolFull(directory)).toBe(false);
  put(1);
  expect(await isSpoolFull(directory)).toBe(true);
  rmSync(directory, { recursive: true });
  mkdirSync(directory);
  put(3);
  expect(await isSpoolFull(directory)).toBe(false);
  put(4);
  expect(await isSpoolFull(directory)).toBe(true);
});
