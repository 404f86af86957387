import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';

/**
 * Brings files back into a project directory, next to what is there, such as the backups. First the restore writes them
 * into a directory of its own, so that it can check them. Then they move up.
 *
 * @param root the project directory
 * @param restoreInto restores all files into a directory
 * @returns the names of what was restored, in `root`
 * @throws TREE_TARGET_NOT_EMPTY if something with one of their names is there; what the restore throws
 */
export async function restoreProjectFiles(
  root: string,
  restoreInto: (directory: string) => Promise<unknown>,
): Promise<string[]> {
  const own = await mkdtemp(path.join(root, '.lifeboat-restored-'));
  try {
    const present = new Set(await readdir(root));
    const files = path.join(own, 'config');
    await restoreInto(files);
    const names = (await readdir(files)).sort();
    const taken = names.filter((name) => present.has(name));
    if (taken.length > 0) {
      throw new LifeboatError('TREE_TARGET_NOT_EMPTY', `${root} already has ${taken.join(', ')}`, {
        hint: 'Move that away, or restore into an empty directory.',
      });
    }
    for (const name of names) await rename(path.join(files, name), path.join(root, name));
    return names;
  } finally {
    await rm(own, { recursive: true, force: true });
  }
}
