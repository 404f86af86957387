import { hasErrno, LifeboatError } from '../../base/errors.ts';
import type { Directory } from '../filesystem/directory.ts';
import { changeAt, disturbed, isOfChange, replacedOnTheWay } from '../filesystem/disturbed.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { OpenDirectories } from '../filesystem/open-directories.ts';
import { shortPath, split, type TreePath } from '../filesystem/path.ts';
import { PathChanged, type TimeSetter } from '../filesystem/times.ts';
import type { NewName } from '../filesystem/write-file.ts';
import { TreeSum } from './tree-sum.ts';

/** A tree that is being created in an empty directory, where other programs may write too. */
export class NewTree {
  private readonly target: Directory;
  private readonly open: OpenDirectories;
  private readonly sum = new TreeSum();

  /** @param target stays open when this is closed */
  constructor(target: Directory) {
    this.target = target;
    this.open = new OpenDirectories(target);
  }

  /** Records an entry that will be created. {@link compare} checks for it. */
  expect(entry: IndexEntry): void {
    this.sum.expect(entry);
  }

  /**
   * Creates a name in its directory, or continues with a file that was created.
   *
   * @throws TREE_TARGET_FULL; TREE_TARGET_REFUSED if another program interfered; OBJECT_DAMAGED if the index is at
   *   fault
   */
  async make<T>(
    entry: Pick<IndexEntry, 'path' | 'type' | 'target'>,
    work: (to: NewName) => T | Promise<T>,
  ): Promise<T> {
    const { parent, name } = split(entry.path);
    try {
      return await this.open.need(parent, (directory) => work({ directory, name }));
    } catch (cause) {
      if (hasErrno(cause, 'ENOSPC', 'EDQUOT')) throw this.full(cause);
      if (!isOfChange(cause)) throw cause;
      // The target was empty, an index has no name twice, and directories precede their content. So another program is
      // to blame.
      const others = [entry.path, ...(entry.type === 'hardlink' ? [entry.target ?? ''] : [])];
      const changed = others.find((path) => replacedOnTheWay(this.target, path) !== undefined);
      if (entry.type !== 'hardlink' || changed !== undefined) throw this.disturbed(changed ?? entry.path, cause);
      throw new LifeboatError('OBJECT_DAMAGED', `${shortPath(entry.path)} cannot be restored`, { cause });
    }
  }

  /** Creates another name of a file. Throws like {@link make}. */
  async link(entry: IndexEntry): Promise<void> {
    const target = split(entry.target ?? '');
    await this.make(entry, ({ directory, name }) =>
      this.open.need(target.parent, (from) => directory.linkFrom(from, target.name, name)),
    );
  }

  /** Runs `work` on a directory that was created. Throws TREE_TARGET_REFUSED if it is gone. */
  finish({ path }: IndexEntry, work: (directory: Directory) => void): void {
    try {
      this.open.need(path, work);
    } catch (error) {
      throw isOfChange(error) ? this.disturbed(`${path}/`, error) : error;
    }
  }

  /** Checks that everything is where it was created, and that there is nothing else. Throws TREE_TARGET_REFUSED. */
  async compare(signal?: AbortSignal): Promise<void> {
    if (await this.sum.matches(this.target, signal)) return;
    throw disturbed(`${this.target.place} does not hold exactly the files that Lifeboat made there`);
  }

  close(): void {
    this.open.close();
  }

  /** Waits until all times are set. Throws TREE_TARGET_REFUSED if a name is gone. */
  async finishTimes(times: TimeSetter): Promise<void> {
    await times.finish().catch((error: unknown) => {
      throw error instanceof PathChanged ? this.disturbed(error.path, error) : error;
    });
  }

  private disturbed(path: TreePath, cause: unknown): LifeboatError {
    return disturbed(changeAt(this.target, path), cause);
  }

  private full(cause: unknown): LifeboatError {
    return new LifeboatError('TREE_TARGET_FULL', `${this.target.place} has no space left`, {
      cause,
      hint: 'Restore to a place with more space, or restore only a part of the tree.',
    });
  }
}
