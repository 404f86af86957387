import { existsSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MEMORY = '/dev/shm';

/**
 * Returns the parent directory for the files of a test. Uses memory if there is room, because syncing a busy disk is
 * slow, and is not what the tests are about.
 *
 * @param bytes - the most that the test writes there
 */
export function scratchFor(bytes: number): string {
  if (!existsSync(MEMORY)) return tmpdir();
  const { bavail, bsize } = statfsSync(MEMORY);
  return bavail * bsize >= bytes ? MEMORY : tmpdir();
}

/**
 * Returns a name for a scratch directory of this process, and removes the directories of processes that are gone: a
 * killed run leaves gigabytes of memory behind.
 */
export function nameScratch(base: string, prefix: string): string {
  for (const name of readdirSync(base)) {
    const pid = name.startsWith(`${prefix}-`) && Number(name.slice(prefix.length + 1));
    if (pid && !existsSync(`/proc/${pid}`)) rmSync(join(base, name), { recursive: true, force: true });
  }
  return join(base, `${prefix}-${process.pid}`);
}
