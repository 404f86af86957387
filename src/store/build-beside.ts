import { readFileSync, writeFileSync } from 'node:fs';
import { readlink, realpath, statfs } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../errors.ts';
import { formatBytes } from '../report/format.ts';
import { areaName, parseAreaName } from './area.ts';
import { Directory, type DirectoryMeta } from './directory.ts';
import { undoExchange } from './exchange.ts';
import { type ExtractedTree, type ExtractTreeOptions, extractTree } from './extract-tree.ts';
import type { PathPredicate } from './glob.ts';
import type { IndexEntry } from './index-file.ts';
import { copyEqualFile, isEqualFile } from './live-file.ts';
import { pathUnder, type TreePath } from './path.ts';
import { setMeta } from './settle.ts';
import { isInParts, lastWritten } from './sqlite/sqlite-file.ts';
import { lookAt } from './walk.ts';

/** What to build beside a volume's data. */
export interface BuildOptions
  extends Pick<ExtractTreeOptions, 'packs' | 'destination' | 'keys' | 'spool' | 'smallFile' | 'signal' | 'progress'> {
  /** absolute path of the volume */
  root: string;
  /** of the restore */
  id: string;
  /** reads the index from its start, each time it is called */
  index(): AsyncIterable<IndexEntry>;
  /** only these paths, and of them only what differs from what is there; absent: the whole tree */
  select?: PathPredicate | undefined;
  /** with `select`: also what is newer in the volume than in the index */
  overwrite: boolean;
  /** bytes that have to be free */
  needed: number;
}

/** What was built. The bytes count what was not built, because it is there already, neither. */
export interface BuiltTree extends ExtractedTree {
  /** with a selection: files that are equal already, and files that are newer there and were not to be replaced */
  equal: number;
  newer: number;
}

/** Where the tree is built, inside its area. */
const BUILT = 'tree';
const BASE = 'base.json';

/** The built tree, below the volume's root. */
export function builtPath(id: string): TreePath {
  return `${areaName('restoring', id)}/${BUILT}`;
}

/**
 * Builds a tree, or the part of it that differs, in an area at the top of the volume that it is to go into; nothing else in
 * the volume changes. Every file is compared with its recorded hash. A file that is equal in the volume is copied from
 * there and not fetched, but never shared with it: an application that writes into it later would change what a rollback
 * brings back.
 *
 * @throws TREE_TARGET_FULL before anything is made, or later; what extractTree throws. Nothing is left then.
 */
export async function buildBeside(options: BuildOptions): Promise<BuiltTree> {
  const { root, id, select, index, overwrite: _, needed, ...rest } = options;
  await checkSpace(root, needed);
  const area = path.join(root, areaName('restoring', id));
  makeArea(root, area);
  const counts = { equal: 0, newer: 0 };
  try {
    const live = pathUnder(await realpath(root));
    const { progress, heard } = steady(options.progress);
    const part = select && (await differing(options, select, live, counts, heard));
    const extracted = await extractTree({
      ...rest,
      progress,
      target: path.join(area, BUILT),
      index: withoutAreas(part?.index ?? index()),
      ...(part
        ? { select: part.select }
        : { takeOver: (entry, to) => copyEqualFile(live(entry.path), to, entry, heard) }),
      owner: true,
      durable: true,
    });
    return { ...extracted, ...counts };
  } catch (error) {
    await undoBeside(root, id);
    if (!(error instanceof LifeboatError) || error.code !== 'TREE_TARGET_FULL') throw error;
    throw new LifeboatError(error.code, `${root} has no space left`, { cause: error.cause, hint: SPACE_HINT });
  }
}

const PROGRESS_MS = 250;

/** Progress that also goes on where nothing is written: `heard` tells the last again, at most a few times a second. */
function steady(tell: BuildOptions['progress']) {
  let last = { done: 0, files: 0 };
  let toldAt = 0;
  const progress = (update: typeof last) => {
    last = update;
    toldAt = Date.now();
    tell?.(update);
  };
  const heard = () => {
    if (Date.now() - toldAt >= PROGRESS_MS) progress(last);
  };
  return { progress, heard };
}

/**
 * Takes back whatever of a restore or rollback is not complete: the built tree, and an exchange that was cut off. One that
 * came to its end stays. Can be called at any time, any number of times.
 */
export async function undoBeside(
  root: string,
  id: string,
  heard: () => void = () => undefined,
): Promise<'old' | 'new'> {
  const state = await undoExchange(root, id, heard);
  const name = areaName('restoring', id);
  const top = Directory.open(root);
  try {
    if (!top.look(name)) return state;
    const base = readBase(path.join(root, name));
    // Last of all, so that a removal that is cut off knows the root's time the next time.
    const area = top.enter(name);
    area?.remove(BUILT, heard);
    area?.close();
    top.remove(name, heard);
    if (base && state === 'old') await setMeta(root, top, base);
    top.sync();
    return state;
  } finally {
    top.close();
  }
}

/** The root's owner, mode and time before the area was made. */
export function rootBefore(root: string, id: string): DirectoryMeta {
  const base = readBase(path.join(root, areaName('restoring', id)));
  if (base) return base;
  throw new LifeboatError('OBJECT_MISSING', `what restore ${id} built is not there any more`);
}

/** Throws TREE_TARGET_FULL. */
export async function checkSpace(root: string, needed: number): Promise<void> {
  const { bavail, bsize } = await statfs(root);
  if (bavail * bsize >= needed) return;
  const free = formatBytes(bavail * bsize);
  throw new LifeboatError('TREE_TARGET_FULL', `${root} has ${free} free, and ${formatBytes(needed)} are needed`, {
    hint: SPACE_HINT,
  });
}

const SPACE_HINT =
  'Restore only a part with --path, elsewhere with --to-directory, or make space: `lifeboat status` shows what earlier restores keep.';

function makeArea(root: string, area: string): void {
  const top = Directory.open(root);
  try {
    const base = top.meta();
    top.make(path.basename(area)).close();
    writeFileSync(path.join(area, BASE), JSON.stringify({ ...base, mtime: String(base.mtime) }), {
      mode: 0o600,
      flush: true,
    });
    top.sync();
  } finally {
    top.close();
  }
}

function readBase(area: string): DirectoryMeta | undefined {
  try {
    const base = JSON.parse(readFileSync(path.join(area, BASE), 'utf8')) as DirectoryMeta;
    return { ...base, mtime: BigInt(base.mtime) };
  } catch {
    return undefined;
  }
}

/** An index that says it holds an area would bring its content to where areas are trusted. */
async function* withoutAreas(index: AsyncIterable<IndexEntry>): AsyncGenerator<IndexEntry> {
  for await (const entry of index) {
    if (parseAreaName(entry.path.split('/')[0] ?? '')) {
      throw new LifeboatError('OBJECT_DAMAGED', 'the index is damaged: it holds an area of a restore');
    }
    yield entry;
  }
}

/** Of what is selected, that which has to come from the snapshot. */
async function differing(
  options: BuildOptions,
  select: PathPredicate,
  live: (path: TreePath) => Buffer,
  counts: { equal: number; newer: number },
  heard: () => void,
): Promise<{ index: AsyncGenerator<IndexEntry>; select: PathPredicate }> {
  // Files with several names stay together: none of them is passed over for being equal.
  const linked = new Set<TreePath>();
  for await (const { type, path: name, target } of options.index()) {
    if (type === 'hardlink' && target !== undefined && select(name, false)) linked.add(target).add(name);
  }
  const passedOver = new Set<TreePath>();
  const isPassedOver = async (entry: IndexEntry) => {
    heard();
    const at = live(entry.path);
    const stat = (await lookAt(entry.path, at))?.stat;
    if (!stat) return false;
    const inParts = entry.sqlite !== undefined && isInParts(at);
    if (!linked.has(entry.path) && !inParts && (await isEqual(entry, at, heard))) {
      counts.equal++;
      return true;
    }
    const written = entry.sqlite === undefined ? stat.mtime : lastWritten(stat, at);
    if (options.overwrite || written <= entry.mtime) return false;
    counts.newer++;
    return true;
  };
  return {
    select: (name, directory) => select(name, directory) && !passedOver.has(name),
    index: (async function* () {
      for await (const entry of options.index()) {
        const wanted = entry.type === 'directory' || !select(entry.path, false);
        if (wanted || !(await isPassedOver(entry))) yield entry;
        else if (linked.has(entry.path)) passedOver.add(entry.path);
      }
    })(),
  };
}

async function isEqual(entry: IndexEntry, at: Buffer, heard: () => void): Promise<boolean> {
  if (entry.type === 'file') return isEqualFile(at, entry, heard);
  if (entry.type !== 'symlink') return false;
  const target = await readlink(at, { encoding: 'latin1' }).catch(() => undefined);
  return target === entry.target;
}
