import { hasErrno, LifeboatError } from '../../base/errors.ts';
import { Directory } from '../filesystem/directory.ts';

/**
 * Opens a volume by its path for some work.
 *
 * @throws TREE_TARGET_FULL if its file system has no space left; the errors of `work`
 */
export async function inVolume<T>(path: string, work: (root: Directory) => Promise<T>): Promise<T> {
  const root = Directory.open(path);
  try {
    return await work(root);
  } catch (error) {
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
    throw new LifeboatError('TREE_TARGET_FULL', `${path} has no space left`, {
      cause: error,
      hint: 'Free some space in the volume, and run the command again. `lifeboat status` shows the data that earlier restores keep, and `lifeboat rollback ID --forget` deletes it.',
    });
  } finally {
    root.close();
  }
}
