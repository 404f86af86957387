import { type BigIntStats, lstat, lstatSync, readdir } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { hasErrno, LifeboatError } from '../errors.ts';
import { parseAreaName } from './area.ts';
import { compileGlobs, selectByGlobs } from './glob.ts';
import { pathUnder, type TreePath } from './path.ts';

/** The kinds of things a directory can hold. */
export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'char' | 'block';

/** What is kept of `lstat`. Times in nanoseconds since 1970. */
export interface FileStat {
  type: FileType;
  /** permission bits, with setuid, setgid and sticky */
  mode: number;
  uid: number;
  gid: number;
  /** bytes */
  size: number;
  mtime: bigint;
  ctime: bigint;
  ino: bigint;
  dev: bigint;
  nlink: number;
  /** has fewer blocks than its size needs */
  sparse: boolean;
  /** was changed so shortly before it was looked at that a further change could leave the same times */
  fresh: boolean;
}

/** One step of a walk: something that is there, or something that could not be looked at. */
export type WalkItem =
  | { path: TreePath; stat: FileStat; error?: undefined }
  | { path: TreePath; stat?: undefined; error: Error };

/** What to leave out: see {@link compileGlobs}. Empty `include` means everything. */
export interface WalkOptions {
  include?: readonly string[];
  exclude?: readonly string[];
  signal?: AbortSignal | undefined;
}

interface Frame {
  path: TreePath;
  stat: FileStat;
  names: string[];
  next: number;
  /** results for the names from `next` on */
  ahead: WalkStep[];
  /** already given out: with `include`, a directory is given out only once something in it is */
  given: boolean;
}

/** What came of looking; undefined when it is gone. */
export type WalkStep = WalkItem | undefined;

const LSTAT_BATCH = 64;
/** A disk that takes longer than that for each name does not answer from memory, milliseconds. */
const SLOW_LSTAT_MS = 0.1;
/** So many batches are left to threads after a slow one. */
const SLOW_BATCHES = 16;
/** The kernel's clock for file times moves in ticks of up to 10 ms. */
const FRESH_MS = 20n;
const lstatAsync = promisify(lstat);
const readdirAsync = promisify(readdir);

/**
 * Walks a directory depth first, in the order of `comparePaths`, the root itself first with an empty path. Symlinks are
 * not followed; other file systems mounted inside are entered; areas of a restore (see area.ts) are passed over. What vanishes meanwhile is left out. Memory grows with the
 * names of the directories on the way down, not with the tree.
 *
 * @throws TREE_UNREADABLE when the root itself cannot be read or is not a directory
 */
export async function* walk(root: string, options: WalkOptions = {}): AsyncGenerator<WalkItem> {
  const absolute = pathUnder(root);
  const excluded = compileGlobs(options.exclude ?? []);
  const wantsAll = (options.include ?? []).length === 0;
  const included = selectByGlobs(options.include ?? []);
  const looking = new Looking(absolute);
  const top = await openRoot(root, absolute);
  yield { path: '', stat: top.stat };
  top.given = true;
  const stack = [top];
  for (let frame = stack.at(-1); frame; frame = stack.at(-1)) {
    options.signal?.throwIfAborted();
    if (frame.next >= frame.names.length) {
      stack.pop();
      continue;
    }
    if (frame.ahead.length === 0) frame.ahead = await looking.at(frame);
    frame.next++;
    const item = frame.ahead.shift();
    if (!item) continue;
    const isDirectory = item.stat?.type === 'directory';
    if (excluded(item.path, isDirectory) || (stack.length === 1 && parseAreaName(item.path))) continue;
    const given = wantsAll || included(item.path, isDirectory);
    if (given) {
      if (!frame.given) yield* ancestors(stack);
      yield item;
    }
    if (!isDirectory || !item.stat) continue;
    const names = await namesOf(absolute(item.path));
    if (names instanceof Error) yield { path: item.path, error: names };
    else stack.push({ path: item.path, stat: item.stat, names, next: 0, ahead: [], given });
  }
}

/** Directories above an included path, that were held back until something in them turned up. */
function* ancestors(stack: Frame[]): Generator<WalkItem> {
  for (const frame of stack) {
    if (frame.given) continue;
    frame.given = true;
    yield { path: frame.path, stat: frame.stat };
  }
}

async function openRoot(root: string, absolute: (path: TreePath) => Buffer): Promise<Frame> {
  const at = absolute('');
  try {
    const stat = fileStat(await lstatAsync(at, { bigint: true }), Date.now());
    if (stat.type !== 'directory') throw new Error('not a directory');
    const names = await readdirAsync(at, { encoding: 'latin1' });
    return { path: '', stat, names: names.sort(), next: 0, ahead: [], given: false };
  } catch (cause) {
    throw new LifeboatError('TREE_UNREADABLE', `cannot read the directory ${root}`, {
      cause,
      hint: 'Check that the directory exists and that the agent may read it.',
    });
  }
}

/** Sorted names, empty for a directory that is gone or was replaced, or the error that kept us from reading it. */
async function namesOf(at: Buffer): Promise<string[] | Error> {
  try {
    // One character per byte and no slash inside: the default order is the byte order.
    return (await readdirAsync(at, { encoding: 'latin1' })).sort();
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    return error instanceof Error ? error : new Error(String(error));
  }
}

/**
 * Looks at some names of a directory at a time. What the system knows by heart it is asked in place, since handing each
 * question to a thread takes several times as long as the answer. A disk that has to be waited for is asked for many at once.
 */
class Looking {
  private readonly absolute: (path: TreePath) => Buffer;
  /** batches to go until it is tried in place again */
  private slow = 0;

  constructor(absolute: (path: TreePath) => Buffer) {
    this.absolute = absolute;
  }

  async at(frame: Frame): Promise<WalkStep[]> {
    const prefix = frame.path === '' ? '' : `${frame.path}/`;
    const names = frame.names.slice(frame.next, frame.next + LSTAT_BATCH);
    if (this.slow-- > 0) return Promise.all(names.map((name) => lookAt(prefix + name, this.absolute(prefix + name))));
    // Who asks in place lets nobody else speak: signals are heard here.
    await setImmediate();
    const begun = performance.now();
    const steps = names.map((name) => lookInPlace(prefix + name, this.absolute(prefix + name)));
    this.slow = performance.now() - begun > names.length * SLOW_LSTAT_MS ? SLOW_BATCHES : 0;
    return steps;
  }
}

function lookInPlace(path: TreePath, at: Buffer): WalkStep {
  const askedAt = Date.now();
  try {
    return { path, stat: fileStat(lstatSync(at, { bigint: true }), askedAt) };
  } catch (error) {
    return failedLook(path, error);
  }
}

/** `lstat` of one name of a tree; undefined when it is gone. */
export function lookAt(path: TreePath, at: Buffer): Promise<WalkStep> {
  const askedAt = Date.now();
  return new Promise((resolve) => {
    lstat(at, { bigint: true }, (error, stats) => {
      resolve(error ? failedLook(path, error) : { path, stat: fileStat(stats, askedAt) });
    });
  });
}

function failedLook(path: TreePath, error: unknown): WalkStep {
  if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
  return { path, error: error instanceof Error ? error : new Error(String(error)) };
}

/** Reduces what the operating system says of a file to what is kept. `askedAt`: `Date.now()` before it was asked. */
export function fileStat(stats: BigIntStats, askedAt: number): FileStat {
  return {
    type: typeOf(stats),
    mode: Number(stats.mode & 0o7777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    size: Number(stats.size),
    mtime: stats.mtimeNs,
    ctime: stats.ctimeNs,
    ino: stats.ino,
    dev: stats.dev,
    nlink: Number(stats.nlink),
    sparse: stats.isFile() && stats.blocks * 512n < stats.size,
    fresh: BigInt(askedAt) - stats.ctimeMs < FRESH_MS,
  };
}

function typeOf(stats: BigIntStats): FileType {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isFIFO()) return 'fifo';
  if (stats.isSocket()) return 'socket';
  return stats.isBlockDevice() ? 'block' : 'char';
}
