import { hasErrno, LifeboatError } from '../../base/errors.ts';
import type { Directory } from '../filesystem/directory.ts';
import { unmovable } from './movable.ts';
import { exchangeState, secureMoves, sumMoves } from './move-list.ts';
import { type FoundArea, isOwn, isOwnMade } from './own-area.ts';

/**
 * Recognises put-aside data by a record outside the volume. Many images run `chown -R` or `chmod -R` on their volume at
 * each start, areas included. Their owners and modes then no longer show who made them.
 */

/** The agent's record of an area with put-aside data. */
export interface KnownArea {
  /** ID of the restore or rollback that made it */
  area: string;
  /** its inode, as a decimal number */
  inode?: string;
  /** SHA-256 of its list of moves, hexadecimal; absent or empty: an older version did not record it */
  list?: string;
  /** the root of its volume, see `identifyRoot` */
  root?: string;
}

/** Marks an area that is being deleted: nothing is brought back from it. */
export const FORGOTTEN = 'forgotten';

/**
 * Returns why an area is not trusted, for a message; undefined if it is. An area is trusted if its list of moves is the
 * recorded one, and the directory is the recorded one or belongs to Lifeboat. (Copies of a volume have other inodes.)
 * Without a record, only the owner counts.
 */
export async function whyUntrusted(
  root: Directory,
  area: Directory,
  known?: Partial<KnownArea>,
): Promise<string | undefined> {
  const stat = area.stat();
  const own = isOwn(root, stat);
  const same = known?.inode === String(stat.ino);
  if (!known?.list) {
    if (own) return undefined;
    return `user ${stat.uid} owns it, or others may write to it, and the spool has no record of its content`;
  }
  if (!own && !same) return 'it is another directory than the recorded one';
  if (area.look(FORGOTTEN)) return undefined;
  return (await sumMoves(area)) === known.list ? undefined : 'its list of moves has changed';
}

/**
 * Makes an area accessible to Lifeboat alone again, and its list a file that only Lifeboat can write to.
 *
 * @throws TREE_TARGET_REFUSED if the area is not the recorded one
 */
export async function reclaim(root: Directory, { area, name }: FoundArea, known: Partial<KnownArea>): Promise<void> {
  const why = await whyUntrusted(root, area, known);
  if (why !== undefined) throw untrusted(name, why);
  takeOwnership(root, { area, name });
  // The list is verified again: until now, another program could write to it.
  if (!known.list || exchangeState(area) === 'none') return;
  if (!(await secureMoves(area, known.list))) throw untrusted(name, 'its list of moves has changed');
}

/** Gives an area to this process's user again, and locks out all others. */
function takeOwnership(root: Directory, { area, name }: FoundArea): void {
  if (isOwnMade(root, area)) return;
  try {
    area.chown({ uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 });
    area.chmod(0o700);
  } catch (error) {
    throw hasErrno(error, 'EPERM', 'EACCES', 'EROFS') ? unmovable(error, root, name, 'changed') : error;
  }
}

/** Returns the error for an area that is not as Lifeboat left it. `why`: see {@link whyUntrusted}. */
export function untrusted(name: string, why: string): LifeboatError {
  return new LifeboatError('TREE_TARGET_REFUSED', `${name} is not as Lifeboat left it: ${why}`, {
    hint: `Lifeboat moves nothing out of it and deletes nothing in it. Inspect it as root: its directory \`tree\` holds the put-aside data. Move what you need back, then move ${name} out of the volume or delete it, and run the command again.`,
  });
}
