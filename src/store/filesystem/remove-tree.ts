import { setImmediate } from 'node:timers/promises';
import { hasErrno } from '../../base/errors.ts';
import { Directory } from './directory.ts';

/**
 * Number of directories that are open at a time. Deeper directories are moved to the top of the tree and removed from
 * there.
 */
const MAX_OPEN = 64;
/** Prefix of the names of moved directories, followed by a number. */
const MOVED = '.lifeboat-removing-';
/** Number of removed names after which other work gets a turn. */
const BATCH = 256;
/** The number of times that a tree is read again because another program has put new names into it. */
const MAX_ROUNDS = 100;

interface Frame {
  directory: Directory;
  /** name in the directory above */
  name: string;
  /** names that are still to be removed */
  names: string[];
}

/** A name to remove that is not a directory. The consumer sets `failed` if that fails. */
interface Unlinking {
  directory: Directory;
  name: string;
  failed?: unknown;
}

/**
 * Removes a name and everything below it, at any depth, without following symlinks. `heard` is called for each removed
 * name. If a name cannot be removed, the rest is removed anyway, and the first error is thrown at the end. Names that
 * another program adds or exchanges meanwhile are removed, too. Memory grows with the names in {@link MAX_OPEN}
 * directories at most.
 */
export function removeTree(parent: Directory, name: string, heard: () => void = () => {}): void {
  for (const one of removing(parent, name, heard)) {
    try {
      one.directory.unlink(one.name);
      heard();
    } catch (error) {
      one.failed = error;
    }
  }
}

/**
 * Like {@link removeTree}, by an absolute path and without blocking the event loop. Succeeds if the name is missing.
 */
export async function removePath(parentPath: string, name: string): Promise<void> {
  let parent: Directory;
  try {
    parent = Directory.open(parentPath);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return;
    throw error;
  }
  try {
    let done = 0;
    for (const one of removing(parent, name)) {
      if (++done % BATCH === 0) await setImmediate();
      // In a thread, because a file system can take seconds to remove a large file.
      await one.directory.unlinkLater(one.name).catch((error: unknown) => {
        one.failed = error;
      });
    }
  } finally {
    parent.close();
  }
}

/** The errors of a removal. */
interface Failures {
  /** the first error that another round does not repair */
  failed?: unknown;
  /** the first error of this round that shows that another program changed the tree meanwhile */
  disturbed?: unknown;
}

/** Removes directories itself, and yields every other name for the caller to remove. */
function* removing(parent: Directory, name: string, heard: () => void = () => {}): Generator<Unlinking> {
  const root = parent.enter(name);
  if (!root) {
    const one: Unlinking = { directory: parent, name };
    if (parent.look(name)) yield one;
    if (one.failed !== undefined) throw one.failed;
    return;
  }
  const failures: Failures = {};
  try {
    for (let again = true, rounds = 0; again; rounds++) {
      failures.disturbed = undefined;
      const moved = yield* emptying(root, failures, heard);
      if (!moved) attempt(() => parent.removeDirectory(name), failures);
      // A name that cannot be removed keeps its directories from being empty: another round does not help.
      const refilled = failures.disturbed !== undefined && failures.failed === undefined;
      again = moved || (refilled && rounds < MAX_ROUNDS);
    }
  } finally {
    root.close();
  }
  const error = failures.failed ?? failures.disturbed;
  if (error !== undefined) throw error;
  heard();
}

/** Removes everything in a directory once. Returns whether deep directories are left at the top for the next round. */
function* emptying(root: Directory, failures: Failures, heard: () => void): Generator<Unlinking, boolean> {
  const stack: Frame[] = [{ directory: root, name: '', names: root.names() }];
  let moved = 0;
  try {
    for (let frame = stack[0]!; ; frame = stack.at(-1)!) {
      const child = frame.names.pop();
      if (child === undefined) {
        if (stack.length === 1) return moved > 0;
        stack.pop();
        frame.directory.close();
        attempt(() => {
          stack.at(-1)!.directory.removeDirectory(frame.name);
          heard();
        }, failures);
        continue;
      }
      const inside = attempt(() => frame.directory.enter(child), failures);
      if (inside === 'failed') continue;
      if (!inside) {
        const one: Unlinking = { directory: frame.directory, name: child };
        yield one;
        if (one.failed !== undefined) note(one.failed, failures);
      } else if (stack.length < MAX_OPEN) {
        stack.push({ directory: inside, name: child, names: [] });
        const names = attempt(() => inside.names(), failures);
        if (names !== 'failed') stack.at(-1)!.names = names;
      } else {
        inside.close();
        attempt(() => {
          moved = moveUp(frame.directory, child, root, moved);
        }, failures);
      }
    }
  } finally {
    for (const { directory } of stack.slice(1)) directory.close();
  }
}

/** Moves a directory to the top of the tree, under a free name. Returns the number for the next one. */
function moveUp(from: Directory, name: string, root: Directory, first: number): number {
  let number = first;
  while (root.look(`${MOVED}${number}`)) number++;
  from.move(name, root, `${MOVED}${number}`);
  return number + 1;
}

function attempt<T>(work: () => T, failures: Failures): T | 'failed' {
  try {
    return work();
  } catch (error) {
    note(error, failures);
    return 'failed';
  }
}

function note(error: unknown, failures: Failures): void {
  // Another program has removed or renamed it: it is gone, or another round finds its new name.
  if (hasErrno(error, 'ENOENT')) return;
  // Another program has put something into it, or something else in its place.
  if (hasErrno(error, 'ENOTEMPTY', 'EEXIST', 'ENOTDIR', 'EISDIR')) failures.disturbed ??= error;
  else failures.failed ??= error;
}
