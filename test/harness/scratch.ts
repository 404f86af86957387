import { existsSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MEMORY = '/dev/shm';

/**
 * The directory that tests build their trees in: in memory, where that has room, since syncing a busy disk is slow and is
 * not what the tests look at.
 *
 * @param bytes - what the test writes there at most
 */
export function scratchFor(bytes: number): string {
  if (!existsSync(MEMORY)) return tmpdir();
  const { bavail, bsize } = statfsSync(MEMORY);
  return bavail * bsize >= bytes ? MEMORY : tmpdir();
}

/**
 * Makes the name of a scratch directory that belongs to this process, and removes those of processes that are gone: a run
 * that was killed leaves gigabytes of memory behind.
 */
export function nameScratch(base: string, prefix: string): string {
  for (const name of readdirSync(base)) {
    const pid = name.startsWith(`${prefix}-`) && Number(name.slice(prefix.length + 1));
    if (pid && !existsSync(`/proc/${pid}`)) rmSync(join(base, name), { recursive: true, force: true });
  }
  return join(base, `${prefix}-${process.pid}`);
}
