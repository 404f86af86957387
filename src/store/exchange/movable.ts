import { hasErrno, LifeboatError } from '../../base/errors.ts';
import type { Directory } from '../filesystem/directory.ts';
import { remoteFileSystem } from '../filesystem/file-system.ts';
import { within } from '../filesystem/open-directories.ts';
import { shortPath, split, type TreePath } from '../filesystem/path.ts';
import type { ExchangeStep } from './move-list.ts';

/** Why a name cannot be moved or deleted, by the system's error. */
const REASONS = {
  EPERM: 'it, or its directory, is immutable or append-only',
  EACCES: 'the system does not allow it',
  EROFS: 'it is read-only',
  EBUSY: 'something is mounted there',
};

/**
 * Refuses a directory in which nothing can be renamed or deleted: one that cannot be given its own mode either.
 *
 * @throws TREE_TARGET_REFUSED
 */
export function checkChangeable(root: Directory, path: TreePath): void {
  within(root, path, (directory) => {
    try {
      directory.chmod(directory.meta().mode);
    } catch (error) {
      throw unmovable(error, root, path, 'changed');
    }
  });
}

/**
 * Finds out whether a name could be moved, without moving it: a rename onto a directory that is not empty is checked as any
 * other, and then refused.
 *
 * @param occupied the name of a directory at the top of the volume that holds something
 * @throws TREE_TARGET_REFUSED
 */
function checkMovable(root: Directory, path: TreePath, occupied: string): void {
  const { parent, name } = split(path);
  within(root, parent, (directory) => {
    try {
      directory.replace(name, root, occupied);
    } catch (error) {
      if (hasErrno(error, 'EISDIR', 'ENOTDIR', 'ENOTEMPTY', 'EEXIST', 'ENOENT')) return;
      throw unmovable(error, root, path, 'moved');
    }
  });
}

/** The error of a rename or an unlink, named where the reason lies with the file; else as it is. */
export function unmovable(error: unknown, root: Directory, path: TreePath, what: string): unknown {
  const [code, reason] = Object.entries(REASONS).find(([code]) => hasErrno(error, code)) ?? [];
  if (!code) return error;
  const refused = `${path === '' ? root.place : shortPath(path)} cannot be ${what}`;
  const remote = code === 'EPERM' || code === 'EACCES' ? remoteFileSystem(root) : undefined;
  if (remote) {
    return new LifeboatError('TREE_TARGET_REFUSED', `${refused}: the ${remote} file system answers ${code}`, {
      cause: error,
      hint: 'Its server decides what root may do there: look at its export (`no_root_squash`) or at the options of the mount (`allow_other`, `uid`).',
    });
  }
  return new LifeboatError('TREE_TARGET_REFUSED', `${refused}: ${reason}`, {
    cause: error,
    hint: '`lsattr -d` shows flags, and `chattr -i -a` removes them; `findmnt` shows mounts.',
  });
}

/**
 * Finds out whether the steps of an exchange could be made, without making one.
 *
 * @param occupied see {@link checkMovable}
 * @throws TREE_TARGET_REFUSED
 */
export async function checkSteps(
  root: Directory,
  steps: Iterable<ExchangeStep> | AsyncIterable<ExchangeStep>,
  occupied: string,
): Promise<void> {
  for await (const step of steps) {
    if (step.type === 'directory') checkChangeable(root, step.path);
    if (step.type === 'move' && step.out) checkMovable(root, step.path, occupied);
  }
}
