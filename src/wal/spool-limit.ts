import { lstat, readdir, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import { hasErrno, LifeboatError } from '../base/errors.ts';
import { formatBytes } from '../report/format.ts';
import type { DiskSpace } from '../sources/postgres/facts/disk.ts';
import { isNearlyFull, SHARE, WORTH, walLimit } from './slot-watch.ts';
import { listAside } from './spool/aside.ts';
import { listSegments } from './spool/received-files.ts';

/** Limits the WAL that waits in the spool: the server then keeps the rest. */

/**
 * Returns whether the WAL that waits in a directory of the spool is at its limit. The newest file does not count: the
 * receiver needs it to find its place again, so it stays also when everything is stored.
 *
 * @param part 2: whether it is at half of the limit
 */
export async function isSpoolFull(directory: string, part = 1): Promise<boolean> {
  return isAtLimit(await sizeOf(directory), await diskOf(directory), part);
}

async function diskOf(directory: string): Promise<DiskSpace> {
  const { bsize, blocks, bavail } = await statfs(directory);
  return { total: bsize * blocks, free: bsize * bavail };
}

/** Returns whether a disk holds as much WAL as it may, see {@link isSpoolFull}. `size`: of the WAL, bytes */
export function isAtLimit(size: number, disk: DiskSpace, part = 1): boolean {
  // The disk may be that of the server too, whatever else fills it.
  const isWorthIt = size >= Math.max(walLimit(disk) / SHARE, WORTH) / part;
  return size >= walLimit(disk) / part || (isNearlyFull(disk) && isWorthIt);
}

/**
 * Refuses to receive more into a directory whose WAL is at its limit. WAL that was set aside has a limit of its own:
 * beyond it, the oldest gives way. The newest stays unless the disk is nearly full.
 *
 * @param tell called with what was deleted
 * @throws SPOOL_FULL
 */
export async function refuseFullSpool(directory: string, tell: (error: LifeboatError) => void): Promise<void> {
  await limitAside(directory, tell);
  if (!(await isSpoolFull(directory))) return;
  throw new LifeboatError(
    'SPOOL_FULL',
    `${formatBytes(await sizeOf(directory))} of WAL wait in the spool, so Lifeboat receives no more`,
    { hint: 'Lifeboat goes on once the destination has accepted half of it. Until then, the server keeps the rest.' },
  );
}

/**
 * Deletes WAL of a directory that was set aside while that is at its limit, see {@link refuseFullSpool}. The directory
 * itself may be gone.
 */
export async function limitAside(directory: string, tell: (error: LifeboatError) => void): Promise<void> {
  for (;;) {
    const [oldest, ...newer] = await listAside(directory);
    if (!oldest) return;
    const disk = await diskOf(path.dirname(directory));
    const size = newer.reduce((sum, one) => sum + one.size, oldest.size);
    if (!isAtLimit(size, disk) || (newer.length === 0 && !isNearlyFull(disk))) return;
    await rm(oldest.directory, { recursive: true, force: true });
    const what = `${formatBytes(oldest.size)} of WAL that were set aside at ${oldest.at} are deleted`;
    const hint = 'They belonged to no stored history. Nothing that was stored is lost.';
    tell(new LifeboatError('SPOOL_FULL', `${what}: the spool has no more space for them`, { hint }));
  }
}

/** Returns the size of what waits: of all files but the newest segment, complete or not. */
async function sizeOf(directory: string): Promise<number> {
  let size = 0;
  const newest = (await listSegments(directory)).sort().at(-1);
  for (const name of await readdir(directory)) {
    if (name === newest) continue;
    try {
      size += (await lstat(path.join(directory, name))).size;
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
    }
  }
  return size;
}
