import { lstat, readdir, statfs } from 'node:fs/promises';
import path from 'node:path';
import { hasErrno, LifeboatError } from '../base/errors.ts';
import { formatBytes } from '../report/format.ts';
import { walLimit } from './slot-watch.ts';

/** Limits the WAL that waits in the spool while the destination fails: the server then keeps the rest. */

/**
 * Returns whether the WAL that waits in a directory of the spool is at its limit.
 *
 * @param part 2: whether it is at half of the limit
 */
export async function isSpoolFull(directory: string, part = 1): Promise<boolean> {
  const { bsize, blocks, bavail } = await statfs(directory);
  return (await sizeOf(directory)) >= walLimit({ total: bsize * blocks, free: bsize * bavail }) / part;
}

/** @throws SPOOL_FULL */
export async function refuseFullSpool(directory: string): Promise<void> {
  if (!(await isSpoolFull(directory))) return;
  throw new LifeboatError(
    'SPOOL_FULL',
    `${formatBytes(await sizeOf(directory))} of WAL wait in the spool, so Lifeboat receives no more`,
    { hint: 'Lifeboat goes on once the destination accepts the WAL. Until then, the server keeps it.' },
  );
}

async function sizeOf(directory: string): Promise<number> {
  let size = 0;
  for (const name of await readdir(directory)) {
    try {
      size += (await lstat(path.join(directory, name))).size;
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
    }
  }
  return size;
}
