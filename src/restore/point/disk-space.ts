import { LifeboatError } from '../../base/errors.ts';
import { formatBoth } from '../../report/format.ts';
import { parseDf } from '../../sources/postgres/facts/disk.ts';
import type { ManifestSource } from '../../store/objects/manifest.ts';

/** Space of a file in addition to its content, at most: its last block and its inode. Bytes. */
const FILE_OVERHEAD = 4096 + 512;
/** So much stays free on the disk of the engine, unless less than twice of it is free now. Bytes. */
const RESERVE = 1024 ** 3;

/**
 * Refuses a recovery for whose base backup the disk has no room: servers in use are on the same disk, and stop when it
 * is full.
 *
 * @param df the output of `df -Pk` about the volume to recover into; without a readable table, nothing is refused
 * @throws TREE_TARGET_FULL
 */
export function refuseSmallDisk(df: string, { bytes, files }: Pick<ManifestSource, 'bytes' | 'files'>): void {
  const free = parseDf(df)?.free;
  if (free === undefined) return;
  const needed = bytes + files * FILE_OVERHEAD + Math.min(RESERVE, free / 2);
  if (free >= needed) return;
  const [has, needs] = formatBoth(free, needed);
  throw new LifeboatError(
    'TREE_TARGET_FULL',
    `the disk of the Docker engine has ${has} free, and the recovery needs ${needs}`,
    { hint: 'Nothing was changed. Free space on that disk.' },
  );
}
