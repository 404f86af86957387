import { lstat, mkdtemp, readdir, readFile, readlink, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';

const PREFIX = '.lifeboat-restored-';
/** `mkdtemp` adds six characters. */
const LEFT_BEHIND = /^\.lifeboat-restored-[A-Za-z0-9]{6}$/;

/**
 * Brings files back into a project directory, next to what is there, such as the backups. First the restore writes them
 * into a directory of its own, so that it can check them. Then they move up. What an earlier, killed restore left there
 * is removed, and what it moved up already stays.
 *
 * @param root the project directory
 * @param restoreInto restores all files into a directory
 * @returns the names of what was restored, in `root`, and the result of `restoreInto`
 * @throws TREE_TARGET_NOT_EMPTY if something else with one of their names is there; what the restore throws
 */
export async function restoreProjectFiles<Result>(
  root: string,
  restoreInto: (directory: string) => Promise<Result>,
): Promise<{ files: string[]; result: Result }> {
  const before = await readdir(root);
  // They hold copies of secrets.
  for (const name of before.filter((one) => LEFT_BEHIND.test(one))) await remove(path.join(root, name));
  const own = await mkdtemp(path.join(root, PREFIX));
  try {
    const directory = path.join(own, 'config');
    const result = await restoreInto(directory);
    const files = (await readdir(directory)).sort();
    const present = files.filter((name) => before.includes(name));
    const taken: string[] = [];
    for (const name of present) {
      if (!(await isSame(path.join(directory, name), path.join(root, name)))) taken.push(name);
    }
    if (taken.length > 0) {
      throw new LifeboatError('TREE_TARGET_NOT_EMPTY', `${root} already has ${taken.join(', ')}`, {
        hint: 'Move that away, or restore into an empty directory.',
      });
    }
    for (const name of files) {
      if (!present.includes(name)) await rename(path.join(directory, name), path.join(root, name));
    }
    return { files, result };
  } finally {
    await remove(own);
  }
}

function remove(directory: string): Promise<void> {
  return rm(directory, { recursive: true, force: true });
}

/** Returns whether two files, links or directories have the same content. */
async function isSame(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([lstat(a), lstat(b)]);
  if (one.isSymbolicLink() && other.isSymbolicLink()) return (await readlink(a)) === (await readlink(b));
  if (one.isFile() && other.isFile()) {
    return one.size === other.size && (await readFile(a)).equals(await readFile(b));
  }
  if (!one.isDirectory() || !other.isDirectory()) return false;
  const [names, others] = [(await readdir(a)).sort(), (await readdir(b)).sort()];
  if (names.join('/') !== others.join('/')) return false;
  for (const name of names) if (!(await isSame(path.join(a, name), path.join(b, name)))) return false;
  return true;
}
