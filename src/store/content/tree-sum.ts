import { hash } from 'node:crypto';
import type { Directory } from '../filesystem/directory.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { TreePath } from '../filesystem/path.ts';
import { walk } from '../filesystem/walk.ts';

/**
 * A sum over the names in a tree and their kinds, in any order. Two trees have the same sum if they hold the same
 * names: files of the same size, directories, and symlinks with the same target. It needs constant memory.
 */
export class TreeSum {
  private sum = 0n;

  /** Adds an entry that will be created. */
  expect({ path, type, size = 0, target = '' }: IndexEntry): void {
    if (type === 'file' || type === 'hardlink') this.add(path, `file ${size}`);
    else this.add(path, type === 'symlink' ? `symlink ${target}` : type);
  }

  /** Returns whether a directory holds exactly the expected entries. */
  async matches(directory: Directory, signal?: AbortSignal): Promise<boolean> {
    const found = new TreeSum();
    for await (const { path, stat, target = '' } of walk(directory, { signal })) {
      if (path === '') continue;
      if (!stat) return false;
      if (stat.type === 'file') found.add(path, `file ${stat.size}`);
      else found.add(path, stat.type === 'symlink' ? `symlink ${target}` : stat.type);
    }
    return found.sum === this.sum;
  }

  private add(path: TreePath, what: string): void {
    const digest = hash('sha256', `${path}\0${what}`, 'hex').slice(0, 32);
    this.sum = BigInt.asUintN(128, this.sum + BigInt(`0x${digest}`));
  }
}
