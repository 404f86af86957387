import { closeSync, constants, openSync, readFileSync } from 'node:fs';

const SLASH = 0x2f;

/**
 * Returns whether an open file is a mount of its own, as with a bind mount of a single file. What programs create next
 * to such a file is in a directory of another mount. False if this cannot be found out.
 *
 * @param absolute the path of the file
 */
export function isMountPoint(fd: number, absolute: Buffer): boolean {
  let directory: number | undefined;
  try {
    const parent = absolute.subarray(0, Math.max(1, absolute.lastIndexOf(SLASH)));
    directory = openSync(parent, constants.O_RDONLY | constants.O_DIRECTORY);
    const [own, above] = [mountOf(fd), mountOf(directory)];
    return own !== undefined && above !== undefined && own !== above;
  } catch {
    return false;
  } finally {
    if (directory !== undefined) closeSync(directory);
  }
}

/** Returns the id of the mount that an open file is on: `mnt_id` in proc_pid_fdinfo(5). */
function mountOf(fd: number): string | undefined {
  return /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
}
