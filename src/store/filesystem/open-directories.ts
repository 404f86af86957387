import type { Directory } from './directory.ts';
import { parentOf, shortPath, split, type TreePath } from './path.ts';

/** Number of directories that stay open: by default, a process may have 1024 files open. */
const LIMIT = 128;

interface Held {
  directory: Directory;
  /** number of calls that work in it now */
  users: number;
}

/**
 * Opens the directories of a tree on demand, each by one name from its parent, starting at the root. The most recently
 * used ones stay open. An open directory stays the same directory, wherever it is moved meanwhile.
 */
export class OpenDirectories {
  private readonly top: Held;
  private readonly limit: number;
  /** in order of last use, oldest first */
  private readonly held = new Map<TreePath, Held>();

  /** @param top stays open when this is closed */
  constructor(top: Directory, limit = LIMIT) {
    this.top = { directory: top, users: 0 };
    this.limit = limit;
  }

  /**
   * Runs `work` in the directory at `path`. Returns undefined if a part of the path is missing or is not a directory.
   */
  use<T>(path: TreePath, work: (directory: Directory) => T): T | undefined {
    const held = this.hold(path);
    if (!held) return undefined;
    held.users++;
    let result: T;
    try {
      result = work(held.directory);
    } catch (error) {
      held.users--;
      throw error;
    }
    if (result instanceof Promise) {
      return result.finally(() => held.users--) as T;
    }
    held.users--;
    return result;
  }

  /** Like {@link use}, but throws ENOTDIR if the directory is missing. */
  need<T>(path: TreePath, work: (directory: Directory) => T): T {
    let entered = false;
    const result = this.use(path, (directory) => {
      entered = true;
      return work(directory);
    });
    if (entered) return result as T;
    throw Object.assign(new Error(`ENOTDIR: there is no directory ${shortPath(path)}`), { code: 'ENOTDIR' });
  }

  /** Closes all directories except the root. */
  close(): void {
    for (const { directory } of this.held.values()) directory.close();
    this.held.clear();
  }

  private hold(path: TreePath): Held | undefined {
    if (path === '') return this.top;
    const found = this.held.get(path);
    if (found) {
      this.held.delete(path);
      this.held.set(path, found);
      return found;
    }
    // Starts at the nearest open directory above: paths may have thousands of parts.
    const missing: TreePath[] = [];
    let at = path;
    for (; at !== '' && !this.held.has(at); at = parentOf(at)) missing.push(at);
    let held = at === '' ? this.top : (this.held.get(at) as Held);
    for (const next of missing.reverse()) {
      const directory = held.directory.enter(split(next).name);
      if (!directory) return undefined;
      held = { directory, users: 0 };
      this.held.set(next, held);
      this.closeOldest(held);
    }
    return held;
  }

  private closeOldest(newest: Held): void {
    if (this.held.size <= this.limit) return;
    for (const [path, held] of this.held) {
      if (held.users > 0 || held === newest) continue;
      held.directory.close();
      this.held.delete(path);
      return;
    }
  }
}

/**
 * Runs `work` in the directory at `path` below `top`, which is entered part by part. Returns undefined if a part is
 * missing or is not a directory. With `make`, missing directories are created.
 */
export function within<T>(
  top: Directory,
  path: TreePath,
  work: (directory: Directory) => T,
  { make = false } = {},
): T | undefined {
  if (path === '') return work(top);
  const [first = '', ...rest] = path.split('/');
  const next = make && !top.look(first) ? top.make(first) : top.enter(first);
  if (!next) return undefined;
  try {
    return within(next, rest.join('/'), work, { make });
  } finally {
    next.close();
  }
}
