import type { Stats } from 'node:fs';
import type { ObjectInfo } from './destination.ts';

/**
 * A file that changed less than this long ago has no version, milliseconds. Two changes can fall into one step of the
 * file system's clock, which is two seconds on FAT.
 */
const SETTLED_MS = 3000;

/**
 * Returns the version of an object in a local directory: its size, inode, and the times of its last write and change.
 * No program can set the change time of a file, except through the clock of the host. File systems without an inode or
 * change time of their own still have the write time.
 *
 * A disk that loses bytes changes none of these, so `lifeboat check` reads every manifest.
 */
export function versionOf({ size, ino, mtimeMs, ctimeMs }: Stats): Pick<ObjectInfo, 'version'> {
  const isSettled = Math.max(mtimeMs, ctimeMs) < Date.now() - SETTLED_MS;
  return isSettled ? { version: `${size} ${ino} ${mtimeMs} ${ctimeMs}` } : {};
}
