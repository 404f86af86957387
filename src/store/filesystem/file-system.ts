import { statfsSync } from 'node:fs';
import type { Directory } from './directory.ts';
import type { FileStat } from './file-stat.ts';

/**
 * Magic numbers of file systems that a server or a program implements, or that do not store owners, from statfs(2) and
 * magic.h of Linux.
 */
const REMOTE: Record<number, string> = {
  26985: 'nfs',
  1702057286: 'fuse',
  4283649346: 'cifs',
  4266872130: 'smb',
  20859: 'smb',
  16914839: '9p',
  12805120: 'ceph',
  1397113167: 'afs',
  1196443219: 'gpfs',
  198183888: 'lustre',
  19780: 'vfat',
  538032816: 'exfat',
  2020557398: 'vboxsf',
};

/**
 * Returns the name of a file system that a server or a program implements, or that does not store owners; undefined for
 * any other one, on a disk or in memory.
 */
export function remoteFileSystem(directory: Directory): string | undefined {
  return REMOTE[statfsSync(directory.at('.')).type >>> 0];
}

/**
 * Returns whether a further change of a file could leave the times that `stat` has: see {@link FileStat.fresh}. A
 * server sets times by its own clock, and may round them.
 */
export function isFreshAt(path: Buffer, { fresh, recent }: FileStat): boolean {
  if (fresh || !recent) return fresh;
  try {
    return REMOTE[statfsSync(path).type >>> 0] !== undefined;
  } catch {
    return true;
  }
}
