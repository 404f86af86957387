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
 * name. If a name cannot be removed, the rest is removed anyway, and the first error is thrown at the end. Memory grows
 * with the names in {@link MAX_OPEN} directories at most.
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

/** Removes directories itself, and yields every other name for the caller to remove. */
function* removing(parent: Directory, name: string, heard: () => void = () => {}): Generator<Unlinking> {
  const root = parent.enter(name);
  if (!root) {
    const one: Unlinking = { directory: parent, name };
    if (parent.look(name)) yield one;
    if (one.failed !== undefined) throw one.failed;
    return;
  }
  const stack: Frame[] = [{ directory: root, name, names: [] }];
  let failed: unknown;
  const note = (error: unknown) => {
    failed ??= error;
  };
  try {
    for (let again = true, moved = 0; again; ) {
      const before = moved;
      stack[0]!.names = root.names();
      for (let frame = stack.at(-1)!; ; frame = stack.at(-1)!) {
        const child = frame.names.pop();
        if (child === undefined) {
          if (stack.length === 1) break;
          stack.pop();
          frame.directory.close();
          attempt(() => {
            stack.at(-1)!.directory.removeDirectory(frame.name);
            heard();
          }, note);
          continue;
        }
        const inside = attempt(() => frame.directory.enter(child), note);
        if (inside === 'failed') continue;
        if (!inside) {
          const one: Unlinking = { directory: frame.directory, name: child };
          yield one;
          if (one.failed !== undefined) note(one.failed);
        } else if (stack.length < MAX_OPEN) {
          stack.push({ directory: inside, name: child, names: [] });
          const names = attempt(() => inside.names(), note);
          if (names !== 'failed') stack.at(-1)!.names = names;
        } else {
          inside.close();
          attempt(() => {
            moved = moveUp(frame.directory, child, root, moved);
          }, note);
        }
      }
      again = moved > before;
    }
  } finally {
    for (const { directory } of stack) directory.close();
  }
  attempt(() => parent.removeDirectory(name), note);
  if (failed !== undefined) throw failed;
  heard();
}

/** Moves a directory to the top of the tree, under a free name. Returns the number for the next one. */
function moveUp(from: Directory, name: string, root: Directory, first: number): number {
  let number = first;
  while (root.look(`${MOVED}${number}`)) number++;
  from.move(name, root, `${MOVED}${number}`);
  return number + 1;
}

function attempt<T>(work: () => T, note: (error: unknown) => void): T | 'failed' {
  try {
    return work();
  } catch (error) {
    note(error);
    return 'failed';
  }
}
