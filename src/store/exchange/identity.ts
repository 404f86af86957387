import { type BigIntStats, statSync } from 'node:fs';
import type { Directory } from '../filesystem/directory.ts';

/**
 * The identity of a directory, as text: its inode, followed by `@` and its birth time (statx(2), nanoseconds since
 * 1970) if the file system has one. A file system may give the inode of a removed directory to the next one that
 * anybody creates. Nobody can choose a birth time. The device is left out, because it changes when a network file
 * system is mounted again.
 */
export type Identity = string;

/**
 * True if Node reads birth times with statx(2). Without that call, Node returns the time of the last change instead.
 * The proc file system has no birth times, so only the substitute is not zero there.
 */
let readsBirthTimes: boolean | undefined;

function birthOf({ birthtimeNs }: BigIntStats): bigint {
  readsBirthTimes ??= statSync('/proc/self', { bigint: true }).birthtimeNs === 0n;
  return readsBirthTimes ? birthtimeNs : 0n;
}

/** Returns the identity of an open directory. */
export function identityOf(directory: Directory): Identity {
  const stat = directory.stat();
  const birth = birthOf(stat);
  return birth === 0n ? String(stat.ino) : `${stat.ino}@${birth}`;
}

/**
 * Returns whether a directory has an identity. If a birth time is missing on one side, because the kernel is another
 * one now, the inode decides.
 */
export function isSame(directory: Directory, identity: Identity): boolean {
  const [inode, birth] = identity.split('@');
  const [foundInode, foundBirth] = identityOf(directory).split('@');
  return inode === foundInode && (birth === undefined || foundBirth === undefined || birth === foundBirth);
}
