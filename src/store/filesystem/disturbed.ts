import { hasErrno, LifeboatError } from '../../base/errors.ts';
import type { Directory } from './directory.ts';
import { parentOf, shortPath, type TreePath } from './path.ts';

/** What the system says when a name that was made is gone, or is something else now. */
const CHANGED = ['EEXIST', 'ENOENT', 'ENOTDIR', 'ELOOP'];

/** True for an error that only somebody else's change can cause, where the name was made and is reached through no symlink. */
export function isOfChange(error: unknown): boolean {
  return hasErrno(error, ...CHANGED);
}

/** The error for a tree that something else changes while it is restored. `found`: what was seen of that. */
export function disturbed(found: string, cause?: unknown): LifeboatError {
  return new LifeboatError(
    'TREE_TARGET_REFUSED',
    `the tree that is being restored was changed by something else: ${found}`,
    { cause, hint: 'Nothing was replaced. Stop what writes there, then restore again.' },
  );
}

/** The first part of a path below `root` that is not the directory that was made there; undefined when all of them are directories. */
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

/** What became of a name that was made, in words. */
export function changeAt(root: Directory, path: TreePath): string {
  const replaced = replacedOnTheWay(root, path);
  if (replaced !== undefined) return `${shortPath(replaced)} is not the directory that Lifeboat made`;
  return `${shortPath(path)} is not what Lifeboat made there`;
}
