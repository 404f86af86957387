import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LifeboatError } from '../../src/base/errors.ts';
import { segmentName } from '../../src/store/wal/names.ts';
import type { ReceiverStatus } from '../../src/wal/receiver-status.ts';
import { asideProblems, removeAside, setAside } from '../../src/wal/spool/aside.ts';
import { isSpoolFull, refuseFullSpool } from '../../src/wal/spool-limit.ts';
import { type Stored, Storing } from '../../src/wal/storing.ts';
import { scratchBase } from '../store/helpers.ts';

const SIZE = 64 * 1024 * 1024;
let directory: string;
let told: string[];
const tell = ({ message }: LifeboatError) => void told.push(message);
beforeEach(() => {
  told = [];
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

test('WAL that is set aside is shown, and keeps nothing from being received', async () => {
  put(1);
  await setAside(directory, new Date(first));
  put(2);
  put(3, '.partial');
  truncateSync(join(directory, segmentName({ timeline: 1, number: 2 }, SIZE)), SIZE);
  await refuseFullSpool(directory, tell);
  expect((await asideProblems(directory)).map(({ message }) => message)).toEqual([
    expect.stringContaining(`6.0 GiB of WAL that belongs to no stored history are set aside since ${first}`),
  ]);
  expect(told).toEqual([]);
});

test('beyond a limit of its own, the oldest WAL that is set aside is deleted, and people hear of it', async () => {
  for (const at of [first, second]) {
    put(1);
    await setAside(directory, new Date(at));
  }
  await refuseFullSpool(directory, tell);
  expect(await asideProblems(directory)).toMatchObject([{ message: expect.stringContaining(second) }]);
  expect(told).toEqual([expect.stringContaining(`6.0 GiB of WAL that were set aside at ${first} are deleted`)]);
});

test('WAL that was just set aside stays while what waits is stored before more is received', async () => {
  put(1);
  await setAside(directory, new Date(first));
  const storing = new Storing({
    ...{ status: {} as ReceiverStatus, bases: { provide: async () => undefined }, onCaughtUp: () => undefined },
    ...{ intervalMs: 10, stallTimeoutMs: 1000 },
  });
  await storing.drain({ directory } as Stored, new AbortController().signal);
  expect(await asideProblems(directory)).toHaveLength(1);
});

test('WAL that is set aside is removed once the window is over', async () => {
  for (const at of [first, second]) {
    put(1);
    await setAside(directory, new Date(at));
  }
  await removeAside(directory, new Date('2026-11-20T12:00:00Z'));
  expect(await asideProblems(directory)).toMatchObject([{ message: expect.stringContaining(second) }]);
});
