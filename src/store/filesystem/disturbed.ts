import { hasErrno, LifeboatError } from '../../base/errors.ts';
import type { Directory } from './directory.ts';
import { parentOf, shortPath, type TreePath } from './path.ts';

/** Error codes of the system for a created name that is gone, or has become something else. */
const CHANGED = ['EEXIST', 'ENOENT', 'ENOTDIR', 'ELOOP'];

/**
 * Returns whether only a change by another program can cause an error, given that Lifeboat created the name and no
 * symlink is on the way.
 */
export function isOfChange(error: unknown): boolean {
  return hasErrno(error, ...CHANGED);
}

/** Returns the error for a tree that another program changes during a restore or rollback. `found`: the change. */
export function disturbed(found: string, cause?: unknown): LifeboatError {
  return new LifeboatError('TREE_TARGET_REFUSED', `another program changed the tree: ${found}`, {
    cause,
    hint: 'Nothing was replaced. Stop the program that writes to the volume, then run the command again.',
  });
}

/** Returns the first directory on the way to `path` that is no longer a directory; undefined if all of them are. */
export function replacedOnTheWay(root: Directory, path: TreePath): TreePath | undefined {
  let at = root;
  let done = '';
  try {
    for (const part of parentOf(path).split('/').filter(Boolean)) {
      done = done === '' ? part : `${done}/${part}`;
      const next = at.enter(part);
      if (!next) return done;
      if (at !== root) at.close();
      at = next;
    }
    return undefined;
  } finally {
    if (at !== root) at.close();
  }
}

/** Describes the change of a created name, for a message. */
export function changeAt(root: Directory, path: TreePath): string {
  const replaced = replacedOnTheWay(root, path);
  if (replaced !== undefined) return `${shortPath(replaced)} is not the directory that Lifeboat made`;
  return `${shortPath(path)} is not the file that Lifeboat made`;
}
