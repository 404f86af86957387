import { LifeboatError } from '../../base/errors.ts';
import { areaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';

/** How an exchange ended. `now`: the data in place; `kept`: whether the area holds replaced data. */
export interface Ended {
  now: 'old' | 'new';
  kept?: boolean;
}

/**
 * Identifies the root of a volume: its inode and, if the file system stores one, its time of creation in nanoseconds
 * since 1970. The device is left out, because it changes when a disk or network file system is mounted again. An empty
 * mount point is another directory than the root of the disk that belongs there.
 */
export function identifyRoot(root: Directory): string {
  const { ino, birthtimeNs, ctimeNs } = root.stat();
  // Without a time of creation, Node returns 0 or the time of the last change (statx(2), STATX_BTIME).
  return birthtimeNs === 0n || birthtimeNs === ctimeNs ? `${ino}` : `${ino}:${birthtimeNs}`;
}

/** Returns whether a volume is another one than the recorded one. `recorded`: see {@link identifyRoot}. */
export function isOtherRoot(root: Directory, recorded: string | undefined): boolean {
  if (recorded === undefined) return false;
  const [inode, birth] = recorded.split(':');
  const [inodeNow, birthNow] = identifyRoot(root).split(':');
  return inode !== inodeNow || (birth !== undefined && birthNow !== undefined && birth !== birthNow);
}

/** What is recorded about an exchange. */
interface Recorded {
  /** see {@link identifyRoot} */
  root?: string;
  /** SHA-256 of its list of moves; absent: nothing has moved */
  list?: string;
  ended?: Ended;
}

/**
 * Returns the state of a volume in which an exchange has no area. An area that is missing alone proves nothing: a disk
 * may not be mounted, or somebody may have moved the area.
 *
 * @throws TREE_HALF_RESTORED
 */
export function stateWithoutArea(
  root: Directory,
  id: string,
  { root: recorded, list, ended }: Recorded,
): 'old' | 'new' {
  if (ended) return ended.now;
  const name = areaName('before', id);
  if (isOtherRoot(root, recorded)) {
    throw new LifeboatError('TREE_HALF_RESTORED', `${root.place} is not the directory in which ${name} was made`, {
      hint: 'Mount the disk or network file system of the volume. Lifeboat then continues by itself.',
    });
  }
  if (list === undefined) return 'old';
  throw new LifeboatError('TREE_HALF_RESTORED', `${name} is gone, and some of the old data is still in it`, {
    hint: `Move ${name} back to the top of the volume, as root. Lifeboat then continues by itself. If the data is lost, \`lifeboat rollback ${id} --forget\` accepts the volume as it is.`,
  });
}
