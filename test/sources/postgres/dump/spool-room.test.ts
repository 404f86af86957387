import { statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { checkSpool, PlainRoom } from '../../../../src/sources/postgres/dump/spool-room.ts';

const spool = tmpdir();
const { bavail, bsize } = statfsSync(spool);
const free = bavail * bsize;
const sized = (...sizes: number[]) => sizes.map((size, i) => ({ name: `db${i}`, size, encoding: 'UTF8' }) as never);

test('an uncompressed dump needs twice the size of the databases and a reserve', () => {
  expect(PlainRoom.find(spool, sized(1e6, 2e6))).toBeDefined();
  expect(PlainRoom.find(spool, sized(free * 0.4, free * 0.1))).toBeUndefined();
});

test('room counts as used up only if the space is really gone', () => {
  const room = PlainRoom.find(spool, sized(1e6));
  // The size of a sparse file proves nothing.
  expect([room?.isUsedUp(1e6), room?.isUsedUp(free * 0.7), room?.isUsedUp(2 ** 42)]).toEqual([false, false, false]);
});

test('a dump that is likely to fill the spool is refused, depending on its compression', () => {
  checkSpool(spool, sized(free * 1.5), 'zstd');
  checkSpool(spool, sized(free * 0.9), 'none');
  const full = expect.objectContaining({ code: 'SPOOL_FULL' });
  expect(() => checkSpool(spool, sized(free, free * 1.5), 'zstd')).toThrow(full);
  expect(() => checkSpool(spool, sized(free * 1.5), 'none')).toThrow(full);
});
