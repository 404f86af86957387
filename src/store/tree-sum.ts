import { hash } from 'node:crypto';
import { LifeboatError } from '../errors.ts';
import type { Directory } from './directory.ts';
import type { IndexEntry } from './index-file.ts';
import type { TreePath } from './path.ts';
import { walk } from './walk.ts';

/**
 * A sum over the names of a tree with what each of them is, in any order: two trees have the same one when they hold the
 * same names, as files of the same size, directories, and symlinks to the same place. It takes no memory.
 */
export class TreeSum {
  private sum = 0n;

  /** Adds an entry that is to be made. */
  expect({ path, type, size = 0, target = '' }: IndexEntry): void {
    if (type === 'file' || type === 'hardlink') this.add(path, `file ${size}`);
    else this.add(path, type === 'symlink' ? `symlink ${target}` : type);
  }

  /**
   * Compares with what a directory holds.
   *
   * @throws TREE_TARGET_REFUSED when it holds anything else: it was made somewhere else, or others changed it
   */
  async compare(directory: Directory, signal?: AbortSignal): Promise<void> {
    const found = new TreeSum();
    for await (const { path, stat, target = '' } of walk(directory, { signal })) {
      if (path === '') continue;
      if (!stat) throw disturbed(directory);
      if (stat.type === 'file') found.add(path, `file ${stat.size}`);
      else found.add(path, stat.type === 'symlink' ? `symlink ${target}` : stat.type);
    }
    if (found.sum !== this.sum) throw disturbed(directory);
  }

  private add(path: TreePath, what: string): void {
    const digest = hash('sha256', `${path}\0${what}`, 'hex').slice(0, 32);
    this.sum = BigInt.asUintN(128, this.sum + BigInt(`0x${digest}`));
  }
}

/** What is restored is not where it was put. */
export function disturbed({ place }: Directory, cause?: unknown): LifeboatError {
  return new LifeboatError('TREE_TARGET_REFUSED', `something else writes into ${place}`, {
    cause,
    hint: 'Nothing was replaced. Stop what writes there, then restore again.',
  });
}
