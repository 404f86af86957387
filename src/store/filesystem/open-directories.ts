import type { Directory } from './directory.ts';
import { parentOf, shortPath, split, type TreePath } from './path.ts';

/** So many directories are kept open: programs may have 1024 files open where nobody allows more. */
const LIMIT = 128;

interface Held {
  directory: Directory;
  /** how many work in it now */
  users: number;
}

/**
 * The directories of a tree, opened as they are needed and by one name at a time from its root; some are kept open, those
 * used last. One that is kept stays the same directory, wherever somebody moves it meanwhile.
 */
export class OpenDirectories {
  private readonly top: Held;
  private readonly limit: number;
  /** those used longest ago first */
  private readonly held = new Map<TreePath, Held>();

  /** @param top stays open when this is closed */
  constructor(top: Directory, limit = LIMIT) {
    this.top = { directory: top, users: 0 };
    this.limit = limit;
  }

  /** Works in the directory at `path`. Undefined when a part of the way is missing or is no directory. */
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

  /** The same where the directory has to be there. Throws ENOTDIR. */
  need<T>(path: TreePath, work: (directory: Directory) => T): T {
    let entered = false;
    const result = this.use(path, (directory) => {
      entered = true;
      return work(directory);
    });
    if (entered) return result as T;
    throw Object.assign(new Error(`ENOTDIR: there is no directory ${shortPath(path)}`), { code: 'ENOTDIR' });
  }

  /** Closes all but the root. */
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
    // From the nearest one that is open down: paths may have thousands of parts.
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
 * Works in the directory at `path` below `top`, entered part by part. Undefined when a part of the way is missing or is no
 * directory; with `make`, missing ones are made.
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
