import { hasCode, LifeboatError } from '../../base/errors.ts';
import { formatBytes } from '../../report/format.ts';
import { extractTree } from '../content/extract-tree.ts';
import type { ExtractedTree, ExtractTreeOptions } from '../content/extracted-tree.ts';
import { areaName } from '../filesystem/area.ts';
import { Directory } from '../filesystem/directory.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import { OpenDirectories } from '../filesystem/open-directories.ts';
import { split, type TreePath } from '../filesystem/path.ts';
import type { IndexLine } from '../filesystem/read-index.ts';
import { differing } from './differing.ts';
import { setMeta } from './directory-meta.ts';
import { planMerge, planWhole } from './exchange-plan.ts';
import { copyEqualFile } from './live-file.ts';
import { checkChangeable, checkSteps } from './movable.ts';
import {
  type AreaRecord,
  checkInPlace,
  createOwn,
  emptyMoved,
  findArea,
  inodeOf,
  makeAreas,
  removeArea,
  withoutAreas,
} from './own-area.ts';
import { BASE, encodeBase, readBase, sumBase, writeBase } from './root-base.ts';
import { undoExchange } from './undo-exchange.ts';
import { type Ended, identifyRoot } from './volume-state.ts';

/** Describes the tree to build, and the volume to build it in. */
export interface BuildOptions
  extends Pick<ExtractTreeOptions, 'packs' | 'destination' | 'keys' | 'spool' | 'signal' | 'progress'> {
  /** absolute path of the volume */
  root: string;
  /** ID of the restore */
  id: string;
  /** reads the index; each call starts at its beginning */
  index(): AsyncIterable<IndexLine>;
  /** selects the paths to restore, of which only those that differ from the volume are built; absent: the whole tree */
  select?: PathPredicate | undefined;
  /** with `select`: also replaces files that are newer in the volume than in the index */
  overwrite: boolean;
  /** free space that the build requires, bytes */
  needed: number;
  /** called when the areas exist, before anything is written into them */
  made?(record: AreaRecord): void;
}

/** The result of a build. `files` and `bytes` leave out what was not built because the volume holds it already. */
export interface BuiltTree extends ExtractedTree {
  /** with a selection: files that are equal already, and newer files in the volume that were not to be replaced */
  equal: number;
  newer: number;
  /**
   * Inode of the built directory, as a decimal number. The exchange recognises the directory by it. The device is left
   * out: a network file system gets another one when it is mounted again.
   */
  inode: string;
  /** the areas of this restore */
  areas: Required<Omit<AreaRecord, 'list' | 'ended'>>;
}

/** The directory of the built tree, inside its area. */
const BUILT = 'tree';

/** Returns the path of the built tree, relative to the volume's root. */
export function builtPath(id: string): TreePath {
  return `${areaName('restoring', id)}/${BUILT}`;
}

/**
 * Builds a tree, or the part of it that differs from the volume, in an area at the top of that volume. Nothing else in
 * the volume changes. Every file is verified against its recorded hash. A file that is equal in the volume is copied
 * from there instead of fetched. It is never hard-linked: an application that writes to it later would change the data
 * that a rollback brings back.
 *
 * @throws TREE_TARGET_FULL, before anything is written or later; everything that {@link extractTree} throws. A failed
 *   build leaves nothing behind.
 */
export async function buildTree(options: BuildOptions): Promise<BuiltTree> {
  const { root: rootPath, id, select, index, overwrite: _, needed, made: __, ...rest } = options;
  const root = Directory.open(rootPath);
  const live = new OpenDirectories(root);
  try {
    checkSpace(root, needed);
    checkChangeable(root, '');
    const before = root.meta();
    const { restoring: area, inodes: made } = makeAreas(root, id);
    const base = encodeBase(before, root.meta().mtime);
    const record = { ...made, base: sumBase(base), root: identifyRoot(root) };
    let target: Directory | undefined;
    const counts = { equal: 0, newer: 0 };
    try {
      options.made?.(record);
      target = prepareArea(root, area, base);
      const { progress, heard } = steady(options.progress);
      // Fails before anything is fetched, and long before any service is stopped.
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
      checkInPlace(root, id, record);
      return { ...extracted, ...counts, inode: inodeOf(target), areas: record };
    } catch (error) {
      // Leftovers that cannot be removed now are removed when the run ends or is recovered.
      await takeBack(root, id, { record }).catch(() => undefined);
      emptyMoved(area);
      if (!hasCode(error, 'TREE_TARGET_FULL')) throw error;
      throw new LifeboatError(error.code, `${rootPath} has no space left`, { cause: error.cause, hint: SPACE_HINT });
    } finally {
      target?.close();
      area.close();
    }
  } finally {
    live.close();
    root.close();
  }
}

const PROGRESS_MS = 250;

/**
 * Wraps a progress callback so that it also runs while nothing is written: `heard` repeats the last update, at most
 * four times a second.
 */
function steady(report: BuildOptions['progress']) {
  let last = { done: 0, files: 0 };
  let reportedAt = 0;
  const progress = (update: typeof last) => {
    last = update;
    reportedAt = Date.now();
    report?.(update);
  };
  const heard = () => {
    if (Date.now() - reportedAt >= PROGRESS_MS) progress(last);
  };
  return { progress, heard };
}

/** Options for taking back a restore or rollback. */
interface TakeBackOptions {
  /** its areas; absent or partly absent: not known */
  record?: AreaRecord | undefined;
  heard?: (() => void) | undefined;
  /** called when all moves are made or reverted, before the cleanup. Must not throw */
  ended?: ((state: Ended) => void) | undefined;
}

/**
 * Takes back the incomplete parts of a restore or rollback: the built tree, and an interrupted exchange. A complete
 * exchange stays. Can be called at any time, and repeatedly.
 *
 * @returns whether the volume holds the old or the new data, see {@link undoExchange}
 * @throws TREE_HALF_RESTORED if that cannot be found out now; everything that {@link undoExchange} throws
 */
export async function undoIncomplete(
  rootPath: string,
  id: string,
  options: TakeBackOptions = {},
): Promise<'old' | 'new' | 'unknown'> {
  const root = Directory.open(rootPath);
  try {
    return await takeBack(root, id, options);
  } finally {
    root.close();
  }
}

async function takeBack(root: Directory, id: string, { record, heard = () => undefined, ended }: TakeBackOptions) {
  const state = await undoExchange(root, id, { record, heard, ended });
  const found = findArea(root, 'restoring', id, record?.restoring);
  if (!found) return state;
  try {
    const base = readBase(found.area, record?.base);
    // Removed last: after an interrupted removal, the next one still finds the metadata of the root.
    removeArea(root, found, heard, [BASE]);
    // The owner and mode are in place: the exchange has restored them, or a service has changed them since.
    if (base && state === 'old') await setMeta(root, { ...root.meta(), mtime: base.mtime });
  } finally {
    found.area.close();
  }
  root.sync();
  return state;
}

function checkSpace(root: Directory, needed: number): void {
  const free = root.free();
  if (free >= needed) return;
  throw new LifeboatError(
    'TREE_TARGET_FULL',
    `${root.place} has ${formatBytes(free)} free, but the restore needs ${formatBytes(needed)}`,
    { hint: SPACE_HINT },
  );
}

const SPACE_HINT =
  'Restore only a part with --path, elsewhere with --to-directory, or free some space: `lifeboat status` shows the data that earlier restores keep.';

/** Records the root's metadata in an area, and returns the directory in it for the tree. */
function prepareArea(root: Directory, area: Directory, base: string): Directory {
  writeBase(area, base);
  root.sync();
  return createOwn(area, BUILT);
}
