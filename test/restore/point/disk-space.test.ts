import { expect, test } from 'vitest';
import { refuseSmallDisk } from '../../../src/restore/point/disk-space.ts';

const GIB = 1024 ** 3;
const df = (free: number) => `Filesystem 1024-blocks Used Available Capacity Mounted on
/dev/sda1 ${(100 * GIB) / 1024} 1 ${(free * GIB) / 1024} 9% /lifeboat/data`;

test('a recovery does not begin if its base backup would leave less than 1 GiB of the disk that live servers use', () => {
  const base = { bytes: 10 * GIB, files: 0 };
  expect(() => refuseSmallDisk(df(11), base)).not.toThrow();
  expect(() => refuseSmallDisk(df(10.5), base)).toThrow(/has 10.5 GiB free, and the recovery needs 11.0 GiB/);
  expect(() => refuseSmallDisk(df(11), { ...base, files: 1 })).toThrow(
    expect.objectContaining({ code: 'TREE_TARGET_FULL' }),
  );
});

test('a small base backup fits on a small disk, and an unknown size of the disk refuses nothing', () => {
  expect(() => refuseSmallDisk(df(0.5), { bytes: 0.2 * GIB, files: 0 })).not.toThrow();
  expect(() => refuseSmallDisk(df(0.5), { bytes: 0.3 * GIB, files: 0 })).toThrow(/needs/);
  expect(() => refuseSmallDisk('', { bytes: GIB, files: 1 })).not.toThrow();
});
