import { statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { checkSpool, plainDumpLimit } from '../../../../src/sources/postgres/dump/spool-room.ts';

const spool = tmpdir();
const { bavail, bsize } = statfsSync(spool);
const free = bavail * bsize;
const sized = (...sizes: number[]) => sizes.map((size, i) => ({ name: `db${i}`, size, encoding: 'UTF8' }) as never);

test('a dump is uncompressed if the spool has twice its size and a reserve, and leaves a quarter of the room', async () => {
  const limit = await plainDumpLimit(spool, sized(1e6, 2e6));
  expect(limit).toBeGreaterThan(free * 0.7);
  expect(limit).toBeLessThan(free * 0.8);
  expect(await plainDumpLimit(spool, sized(free * 0.4, free * 0.1))).toBeUndefined();
});

test('a dump that is likely to fill the spool is refused, depending on its compression', async () => {
  await checkSpool(spool, sized(free * 1.5), 'zstd');
  await checkSpool(spool, sized(free * 0.9), 'none');
  await expect(checkSpool(spool, sized(free, free * 1.5), 'zstd')).rejects.toMatchObject({ code: 'SPOOL_FULL' });
  await expect(checkSpool(spool, sized(free * 1.5), 'none')).rejects.toMatchObject({ code: 'SPOOL_FULL' });
});
