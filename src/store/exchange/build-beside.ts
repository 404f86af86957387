import { closeSync, fstatSync, fsyncSync, readFileSync, writeFileSync } from 'node:fs';
import { hasCode, LifeboatError } from '../../base/errors.ts';
import { formatBytes } from '../../report/format.ts';
import { type ExtractedTree, type ExtractTreeOptions, extractTree } from '../content/extract-tree.ts';
import { areaName, parseAreaName } from '../filesystem/area.ts';
import { Directory, type DirectoryMeta } from '../filesystem/directory.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { OpenDirectories } from '../filesystem/open-directories.ts';
import { split, type TreePath } from '../filesystem/path.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { differing } from './differing.ts';
import { undoExchange } from './exchange.ts';
import { planMerge, planWhole } from './exchange-plan.ts';
import { copyEqualFile } from './live-file.ts';
import { checkChangeable, checkSteps } from './movable.ts';
import { setMeta } from './settle.ts';

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
  /**
   * Inode of what was built, as a decimal number, for the exchange to know it again. Not the device: a network file system that was
   * unmounted meanwhile has another one.
   */
  inode: string;
}

/** Where the tree is built, inside its area. */
const BUILT = 'tree';
const BASE = 'base.json';
/** More than is ever written there, bytes. */
const MAX_BASE = 4096;

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
  const { root: rootPath, id, select, index, overwrite: _, needed, ...rest } = options;
  const root = Directory.open(rootPath);
  const live = new OpenDirectories(root);
  try {
    checkSpace(root, needed);
    checkChangeable(root, '');
    const area = areaName('restoring', id);
    const target = makeArea(root, area);
    const counts = { equal: 0, newer: 0 };
    try {
      const before = root.meta();
      const { progress, heard } = steady(options.progress);
      // Before anything is fetched, and long before anything is stopped.
      if (!select) await checkSteps(root, planWhole(root, target, before), area);
      const part = select && (await differing({ options, select, live, counts, heard }));
      const takeOver: ExtractTreeOptions['takeOver'] = async (entry, to) => {
        const { parent, name } = split(entry.path);
        return (await live.use(parent, (from) => copyEqualFile({ from, name, to, entry, heard }))) ?? false;
      };
      const extracted = await extractTree({
        ...rest,
        progress,
        target,
        index: withoutAreas(part?.index ?? index()),
        ...(part ? { select: part.select } : { takeOver }),
        owner: true,
        durable: true,
      });
      if (select) await checkSteps(root, planMerge(root, target, before), area);
      return { ...extracted, ...counts, inode: String(target.stat().ino) };
    } catch (error) {
      // What cannot be removed now is tried again by whoever ends or recovers the run.
      await takeBack(root, id).catch(() => undefined);
      if (!hasCode(error, 'TREE_TARGET_FULL')) throw error;
      throw new LifeboatError(error.code, `${rootPath} has no space left`, { cause: error.cause, hint: SPACE_HINT });
    } finally {
      target.close();
    }
  } finally {
    live.close();
    root.close();
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
  rootPath: string,
  id: string,
  heard: () => void = () => undefined,
): Promise<'old' | 'new'> {
  const root = Directory.open(rootPath);
  try {
    return await takeBack(root, id, heard);
  } finally {
    root.close();
  }
}

async function takeBack(root: Directory, id: string, heard: () => void = () => undefined): Promise<'old' | 'new'> {
  const state = await undoExchange(root, id, heard);
  const name = areaName('restoring', id);
  if (!root.look(name)) return state;
  const area = root.enter(name);
  const base = area && readBase(area);
  // Last of all, so that a removal that is cut off knows the root's time the next time.
  if (area) removeTree(area, BUILT, heard);
  area?.close();
  removeTree(root, name, heard);
  if (base && state === 'old') await setMeta(root, base);
  root.sync();
  return state;
}

/** The root's owner, mode and time before the area was made. */
export function rootBefore(root: Directory, id: string): DirectoryMeta {
  const area = root.enter(areaName('restoring', id));
  const base = area && readBase(area);
  area?.close();
  if (base) return base;
  throw new LifeboatError('OBJECT_MISSING', `what restore ${id} built is not there any more`);
}

function checkSpace(root: Directory, needed: number): void {
  const free = root.free();
  if (free >= needed) return;
  throw new LifeboatError(
    'TREE_TARGET_FULL',
    `${root.place} has ${formatBytes(free)} free, and ${formatBytes(needed)} are needed`,
    { hint: SPACE_HINT },
  );
}

const SPACE_HINT =
  'Restore only a part with --path, elsewhere with --to-directory, or make space: `lifeboat status` shows what earlier restores keep.';

/** Makes an area that knows what the root was like, and in it the directory that is built into. */
function makeArea(root: Directory, name: string): Directory {
  const base = root.meta();
  const area = root.make(name);
  try {
    const file = area.createFile(BASE);
    try {
      writeFileSync(file, JSON.stringify({ ...base, mtime: String(base.mtime) }));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    root.sync();
    return area.make(BUILT);
  } finally {
    area.close();
  }
}

/** Undefined when it cannot be told: others may write there. */
function readBase(area: Directory): DirectoryMeta | undefined {
  let file: number | undefined;
  try {
    file = area.openFile(BASE);
    const stat = fstatSync(file);
    if (!stat.isFile() || stat.size > MAX_BASE) return undefined;
    const { mode, uid, gid, mtime } = JSON.parse(readFileSync(file, 'utf8')) as DirectoryMeta;
    if (![mode, uid, gid].every((number) => Number.isSafeInteger(number) && number >= 0)) return undefined;
    return { mode: mode & 0o7777, uid, gid, mtime: BigInt(mtime) };
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
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
