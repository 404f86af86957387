import type { BigIntStats } from 'node:fs';
import { dirname } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { hasErrno, LifeboatError } from '../../base/errors.ts';
import { parseAreaName } from './area.ts';
import { Directory } from './directory.ts';
import { type FileStat, fileStat } from './file-stat.ts';
import { compileGlobs, selectByGlobs } from './glob.ts';
import { OpenDirectories } from './open-directories.ts';
import type { TreePath } from './path.ts';

/** One step of a walk: something that exists, or a name that could not be examined. `target`: of a symlink. */
export type WalkItem =
  | { path: TreePath; stat: FileStat; target?: TreePath; error?: undefined }
  | { path: TreePath; stat?: undefined; target?: undefined; error: Error };

/** Selects what a walk yields, see {@link compileGlobs}. An empty `include` selects everything. */
export interface WalkOptions {
  include?: readonly string[];
  exclude?: readonly string[];
  /** called with each directory and the names in it; false leaves out its content */
  enter?(path: TreePath, names: readonly string[]): boolean;
  signal?: AbortSignal | undefined;
}

interface Frame {
  path: TreePath;
  stat: FileStat;
  names: string[];
  next: number;
  /** results for the names from `next` on */
  ahead: WalkStep[];
  /** was yielded; with `include`, a directory is yielded only once something in it is */
  given: boolean;
  /** was reported to hold paths that are too long */
  tooLong?: boolean;
}

/** The result for one name; undefined if it has vanished. */
type WalkStep = WalkItem | undefined;

/** Length of the longest path that a system call accepts: PATH_MAX of Linux, without the NUL. Bytes. */
const MAX_PATH = 4095;
const TOO_LONG = 'it holds paths of more than 4,095 bytes, which Linux cannot open';
const LSTAT_BATCH = 64;
/** A disk that takes longer for each name does not answer from memory, milliseconds. */
const SLOW_LSTAT_MS = 0.1;
/** Number of batches that run in threads after a slow one. */
const SLOW_BATCHES = 16;
/**
 * Walks a directory depth first, in the order of `comparePaths`, starting with the root itself as the empty path.
 * Symlinks are not followed, not even one that replaces a directory meanwhile. Other file systems mounted inside are
 * entered. Areas of a restore (see area.ts) are skipped, and so is everything that vanishes meanwhile. If paths are too
 * long for the system, their directory is reported once. Memory grows with the names in the directories on the way
 * down, not with the tree.
 *
 * @param root an open directory, or an absolute path
 * @throws TREE_UNREADABLE if the root itself cannot be read or is not a directory
 */
export async function* walk(root: Directory | string, options: WalkOptions = {}): AsyncGenerator<WalkItem> {
  const excluded = compileGlobs(options.exclude ?? []);
  const wantsAll = (options.include ?? []).length === 0;
  const included = selectByGlobs(options.include ?? []);
  const directory = typeof root === 'string' ? openRoot(root) : root;
  const open = new OpenDirectories(directory);
  try {
    const reader = new NameReader(open);
    const top = readRoot(directory);
    yield { path: '', stat: top.stat };
    top.given = true;
    if (options.enter?.('', top.names) === false) return;
    const stack = [top];
    for (let frame = stack.at(-1); frame; frame = stack.at(-1)) {
      options.signal?.throwIfAborted();
      if (frame.next >= frame.names.length) {
        stack.pop();
        continue;
      }
      if (frame.ahead.length === 0) frame.ahead = await reader.at(frame);
      frame.next++;
      const item = frame.ahead.shift();
      if (!item) continue;
      if (item.path.length > MAX_PATH) {
        if (!frame.tooLong)
          yield { path: frame.path, error: Object.assign(new Error(TOO_LONG), { code: 'ENAMETOOLONG' }) };
        frame.tooLong = true;
        continue;
      }
      const isDirectory = item.stat?.type === 'directory';
      if (excluded(item.path, isDirectory) || (stack.length === 1 && parseAreaName(item.path))) continue;
      const given = wantsAll || included(item.path, isDirectory);
      if (given) {
        if (!frame.given) yield* ancestors(stack);
        yield item;
      }
      if (!isDirectory || !item.stat) continue;
      const names = await namesOf(open, item.path);
      if (names instanceof Error) yield { path: item.path, error: names };
      else if (options.enter?.(item.path, names) !== false)
        stack.push({ path: item.path, stat: item.stat, names, next: 0, ahead: [], given });
    }
  } finally {
    open.close();
    if (directory !== root) directory.close();
  }
}

/** Yields the directories above an included path that were held back until something in them was selected. */
function* ancestors(stack: Frame[]): Generator<WalkItem> {
  for (const frame of stack) {
    if (frame.given) continue;
    frame.given = true;
    yield { path: frame.path, stat: frame.stat };
  }
}

/** Opens the root of a tree. Throws TREE_UNREADABLE. */
export function openRoot(root: string): Directory {
  try {
    return Directory.open(root);
  } catch (error) {
    throw isFile(root, error) ? singleFile(root, error) : unreadable(root, error);
  }
}

/** Makes the error for a bind mount of a single file, which the engine reports like any other mount. */
function singleFile(root: string, cause: unknown): LifeboatError {
  return new LifeboatError('TREE_UNREADABLE', `the mount is a single file, not a directory: ${root}`, {
    cause,
    hint: 'Mount the directory that holds the file, and select that mount with the label.',
  });
}

/** Returns whether only the last part of the path is not a directory. */
function isFile(root: string, error: unknown): boolean {
  if (!hasErrno(error, 'ENOTDIR')) return false;
  try {
    Directory.open(dirname(root)).close();
    return true;
  } catch {
    return false;
  }
}

function readRoot(root: Directory): Frame {
  try {
    return { path: '', stat: fileStat(root.stat(), Date.now()), names: root.names(), next: 0, ahead: [], given: false };
  } catch (error) {
    throw unreadable(root.place, error);
  }
}

function unreadable(root: string, cause: unknown): LifeboatError {
  return new LifeboatError('TREE_UNREADABLE', `cannot read the directory ${root}`, {
    cause,
    hint: 'Check that the directory exists and that Lifeboat may read it.',
  });
}

/**
 * Returns the sorted names of a directory, none if it has vanished or was replaced, or the error that prevents reading
 * it.
 */
async function namesOf(open: OpenDirectories, path: TreePath): Promise<string[] | Error> {
  try {
    return (await open.use(path, (directory) => directory.namesLater())) ?? [];
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    return error instanceof Error ? error : new Error(String(error));
  }
}

/**
 * Examines some names of a directory at a time. If the system has the answers in memory, they are requested
 * synchronously: handing each call to a thread takes several times as long. If the disk is slow, many requests run at
 * once in threads.
 */
class NameReader {
  private readonly open: OpenDirectories;
  /** number of batches until synchronous calls are tried again */
  private slow = 0;

  constructor(open: OpenDirectories) {
    this.open = open;
  }

  async at(frame: Frame): Promise<WalkStep[]> {
    const prefix = frame.path === '' ? '' : `${frame.path}/`;
    const names = frame.names.slice(frame.next, frame.next + LSTAT_BATCH);
    const inThreads = this.slow-- > 0;
    // Synchronous calls block the event loop. This lets signals and other work run in between.
    if (!inThreads) await setImmediate();
    const steps = await this.open.use(frame.path, (directory) => {
      if (inThreads) return Promise.all(names.map((name) => lookLater(directory, prefix + name, name)));
      const begun = performance.now();
      const found = names.map((name) => lookInPlace(directory, prefix + name, name));
      this.slow = performance.now() - begun > names.length * SLOW_LSTAT_MS ? SLOW_BATCHES : 0;
      return found;
    });
    return steps ?? names.map(() => undefined);
  }
}

function lookInPlace(directory: Directory, path: TreePath, name: string): WalkStep {
  const askedAt = Date.now();
  try {
    return found(directory, path, name, statOf(directory.look(name), askedAt));
  } catch (error) {
    return failedLook(path, error);
  }
}

async function lookLater(directory: Directory, path: TreePath, name: string): Promise<WalkStep> {
  const askedAt = Date.now();
  try {
    return found(directory, path, name, statOf(await directory.lookLater(name), askedAt));
  } catch (error) {
    return failedLook(path, error);
  }
}

function statOf(stats: BigIntStats | undefined, askedAt: number): FileStat | undefined {
  return stats && fileStat(stats, askedAt);
}

function found(directory: Directory, path: TreePath, name: string, stat: FileStat | undefined): WalkStep {
  if (!stat) return undefined;
  return stat.type === 'symlink' ? { path, stat, target: directory.readLink(name) } : { path, stat };
}

function failedLook(path: TreePath, error: unknown): WalkStep {
  // EINVAL: a symlink that has become something else.
  if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'EINVAL')) return undefined;
  return { path, error: error instanceof Error ? error : new Error(String(error)) };
}
