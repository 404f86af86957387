import fs, { lstatSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { fileStat } from '../../../src/store/filesystem/file-stat.ts';
import { isFreshAt } from '../../../src/store/filesystem/file-system.ts';
import { stateOf, UNSETTLED } from '../../../src/store/sqlite/sqlite-file.ts';

let kind: number | Error;
beforeAll(() => {
  vi.spyOn(fs, 'statfsSync').mockImplementation((() => {
    if (kind instanceof Error) throw kind;
    return { type: kind };
  }) as unknown as typeof fs.statfsSync);
  syncBuiltinESMExports();
});
afterAll(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
});

const EXT4 = 0xef53;
const NFS = 0x6969;
const FUSE = 0x65735546;
const CIFS = -11317950;
const NOW = 1_800_000_000_000;
const FILE = Buffer.from('/');

/** A file whose ctime, and mtime, lies so many milliseconds before now. */
function stat(changed: number, written = changed, nanoseconds = 1n) {
  const [ctimeMs, mtimeMs] = [BigInt(NOW - changed), BigInt(NOW - written)];
  const times = { ctimeMs, mtimeMs, ctimeNs: ctimeMs * 1_000_000n, mtimeNs: mtimeMs * 1_000_000n };
  const stats = Object.assign(lstatSync('/', { bigint: true }), times);
  return fileStat(Object.assign(stats, { ctimeNs: times.ctimeNs + nanoseconds }), NOW);
}

test('a local file is fresh for as long as a tick of the clock', () => {
  kind = EXT4;
  expect([10, -500, 30, 1000].map((ms) => isFreshAt(FILE, stat(ms)))).toEqual([true, true, false, false]);
});

test('a file whose times are whole seconds is fresh for three seconds', () => {
  kind = EXT4;
  expect([1000, 2000, 3000].map((ms) => isFreshAt(FILE, stat(ms, ms, 0n)))).toEqual([true, true, false]);
  // A program has set the mtime.
  expect(isFreshAt(FILE, stat(1000))).toBe(false);
});

test.each([
  ['nfs', NFS],
  ['fuse', FUSE],
  ['cifs', CIFS],
])('a file on %s is fresh for three seconds, and while its time is in the future', (_, type) => {
  kind = type;
  expect([30, 2999, 3000, -60_000].map((ms) => isFreshAt(FILE, stat(ms)))).toEqual([true, true, false, true]);
  // The ctime of FAT is the time of creation.
  expect(isFreshAt(FILE, stat(60_000, 1000))).toBe(true);
  // A program has set the mtime.
  expect(isFreshAt(FILE, stat(60_000, -60_000))).toBe(false);
  expect(stateOf(stat(1000), Buffer.from('/db'))).toBe(UNSETTLED);
});

test('a file whose file system does not answer is fresh for three seconds', () => {
  kind = new Error('EIO');
  expect([1000, 3000].map((ms) => isFreshAt(FILE, stat(ms)))).toEqual([true, false]);
});
