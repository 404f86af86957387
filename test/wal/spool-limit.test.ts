import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { segmentName } from '../../src/store/wal/names.ts';
import { asideProblems, removeAside, setAside } from '../../src/wal/spool/aside.ts';
import { isSpoolFull, refuseFullSpool } from '../../src/wal/spool-limit.ts';
import { scratchBase } from '../store/helpers.ts';

const SIZE = 64 * 1024 * 1024;
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(scratchBase, 'lifeboat-limit-'));
  mkdirSync(directory, { recursive: true });
});
afterEach(() => {
  for (const one of [directory, `${directory}.aside`]) rmSync(one, { recursive: true, force: true });
});

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

const [first, second] = ['2026-11-20T03:00:00.000Z', '2026-11-21T03:00:00.000Z'];

test('WAL that is set aside fills the spool too, is shown, and gives way to new WAL', async () => {
  put(1);
  await setAside(directory, new Date(first));
  put(1);
  await setAside(directory, new Date(second));
  put(2);
  expect(await isSpoolFull(directory)).toBe(true);
  expect((await asideProblems(directory)).map(({ message }) => message)).toEqual([
    expect.stringContaining(`6.0 GiB of WAL that belongs to no stored history are set aside since ${first}`),
    expect.stringContaining(second),
  ]);
  await refuseFullSpool(directory);
  expect(await asideProblems(directory)).toEqual([]);
});

test('WAL that is set aside is removed once the window is over', async () => {
  for (const at of [first, second]) {
    put(1);
    await setAside(directory, new Date(at));
  }
  await removeAside(directory, new Date('2026-11-20T12:00:00Z'));
  expect(await asideProblems(directory)).toMatchObject([{ message: expect.stringContaining(second) }]);
});
