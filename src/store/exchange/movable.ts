import { hasErrno, LifeboatError } from '../../base/errors.ts';
import type { Directory } from '../filesystem/directory.ts';
import { remoteFileSystem } from '../filesystem/file-system.ts';
import { within } from '../filesystem/open-directories.ts';
import { shortPath, split, type TreePath } from '../filesystem/path.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import type { ExchangeStep } from './move-list.ts';

/** Why a name cannot be moved or deleted, by the error code of the system. */
const REASONS = {
  EPERM: 'it, or its directory, is immutable or append-only',
  EACCES: 'the system does not allow it',
  EROFS: 'it is read-only',
  EBUSY: 'something is mounted there',
};

/**
 * Refuses a directory in which nothing can be renamed or deleted. Setting the directory's own mode again fails in that
 * case too.
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
 * Checks whether a name can be moved, without moving it: the kernel checks a rename onto a directory that is not empty
 * like any other, and then refuses it.
 *
 * @param area holds the directory {@link OCCUPIED}, which is not empty
 * @throws TREE_TARGET_REFUSED
 */
function checkMovable(root: Directory, path: TreePath, area: Directory): void {
  const { parent, name } = split(path);
  within(root, parent, (directory) => {
    try {
      directory.replace(name, area, OCCUPIED);
    } catch (error) {
      if (hasErrno(error, 'EISDIR', 'ENOTDIR', 'ENOTEMPTY', 'EEXIST', 'ENOENT')) return;
      throw unmovable(error, root, path, 'moved');
    }
  });
}

/**
 * Turns the error of a rename or unlink into TREE_TARGET_REFUSED if the file is the reason; returns any other error as
 * it is.
 */
export function unmovable(error: unknown, root: Directory, path: TreePath, what: string): unknown {
  const [code, reason] = Object.entries(REASONS).find(([code]) => hasErrno(error, code)) ?? [];
  if (!code) return error;
  const refused = `${path === '' ? root.place : shortPath(path)} cannot be ${what}`;
  const remote = code === 'EPERM' || code === 'EACCES' ? remoteFileSystem(root) : undefined;
  if (remote) {
    return new LifeboatError('TREE_TARGET_REFUSED', `${refused}: the ${remote} file system answers ${code}`, {
      cause: error,
      hint: 'The file system decides what root may do there. Check the export options of its server (`no_root_squash`) or its mount options (`allow_other`, `uid`).',
    });
  }
  return new LifeboatError('TREE_TARGET_REFUSED', `${refused}: ${reason}`, {
    cause: error,
    hint: `\`lsattr ${what === 'deleted' ? '-aR' : '-d'}\` shows flags${what === 'deleted' ? ' of everything in it' : ''}, and \`chattr -i -a\` removes them; \`findmnt\` shows mounts.`,
  });
}

const OCCUPIED = 'occupied';

/**
 * Checks whether the steps of an exchange can be made, without making any.
 *
 * @param area an area of Lifeboat: no other program can replace a directory in it
 * @param incoming the directory whose content moves in, if other programs can have changed that
 * @throws TREE_TARGET_REFUSED
 */
export async function checkSteps(
  root: Directory,
  steps: Iterable<ExchangeStep> | AsyncIterable<ExchangeStep>,
  area: Directory,
  incoming?: Directory,
): Promise<void> {
  within(area, `${OCCUPIED}/${OCCUPIED}`, () => undefined, { make: true });
  try {
    for await (const step of steps) {
      if (step.type === 'directory') checkChangeable(root, step.path);
      if (step.type === 'move' && step.out) checkMovable(root, step.path, area);
      if (step.type === 'move' && step.in && incoming) checkMovable(incoming, step.path, area);
    }
  } finally {
    removeTree(area, OCCUPIED);
  }
}
