import { hasCode, LifeboatError } from '../../base/errors.ts';
import { formatBoth } from '../../report/format.ts';
import { extractTree } from '../content/extract-tree.ts';
import type { ExtractedTree, ExtractTreeOptions } from '../content/extracted-tree.ts';
import { areaName } from '../filesystem/area.ts';
import { Directory } from '../filesystem/directory.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import { OpenDirectories } from '../filesystem/open-directories.ts';
import { split } from '../filesystem/path.ts';
import type { IndexLine } from '../filesystem/read-index.ts';
import { differing } from './differing.ts';
import { setRootTime } from './directory-meta.ts';
import { planMerge, planWhole } from './exchange-plan.ts';
import { findArea, findUnrecorded, isOtherRoot, openAreas, removeUnused } from './find-area.ts';
import type { EndedExchange, EndOptions } from './finish-exchange.ts';
import { type Identity, identityOf } from './identity.ts';
import { inVolume } from './in-volume.ts';
import { knownIn } from './known-area.ts';
import { copyEqualFile } from './live-file.ts';
import { checkChangeable, checkSteps } from './movable.ts';
import { type AreaRecord, createOwn, makeAreas, removeArea, removeOpen, withoutAreas } from './own-area.ts';
import { BASE, encodeBase, readBase, sumBase, writeBase } from './root-base.ts';
import { otherRoot, undoExchange } from './undo-exchange.ts';

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
  /** called when the build has failed and nothing of it is left in the volume */
  takenBack?(): void;
}

/** The areas of a restore, and the built directory. The exchange recognises them by their identities. */
export interface BuiltAreas extends Required<Omit<AreaRecord, 'list' | 'size' | 'ended'>> {
  tree: Identity;
}

/** The result of a build. `files` and `bytes` leave out what was not built because the volume holds it already. */
export interface BuiltTree extends ExtractedTree {
  /** with a selection: files that are equal already, and newer files in the volume that were not to be replaced */
  equal: number;
  newer: number;
  areas: BuiltAreas;
}

/** The directory of the built tree, inside its area. */
export const BUILT = 'tree';

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
  const { takenBack, root: path } = options;
  const root = Directory.open(path);
  let areas: ReturnType<typeof makeAreas> | undefined;
  const { mtime } = root.meta();
  try {
    checkSpace(root, options.needed);
    checkChangeable(root, '');
    areas = makeAreas(root, options.id);
    return await buildIn(root, areas, mtime, options);
  } catch (error) {
    // Leftovers that cannot be removed now are removed when the run ends or is recovered.
    if (await isTakenBack(root, options.id, areas, mtime)) takenBack?.();
    if (!hasCode(error, 'TREE_TARGET_FULL')) throw error;
    throw new LifeboatError(error.code, `${path} has no space left`, { cause: error.cause, hint: SPACE_HINT });
  } finally {
    areas?.restoring.close();
    areas?.before.close();
    root.close();
  }
}

/** Removes the areas of a failed build. Resolves to whether nothing of them is left. `mtime`: of the root before. */
async function isTakenBack(
  root: Directory,
  id: string,
  areas: ReturnType<typeof makeAreas> | undefined,
  mtime: bigint,
): Promise<boolean> {
  if (!areas) return true;
  try {
    removeOpen(root, areas.restoring, areaName('restoring', id));
    removeOpen(root, areas.before, areaName('before', id));
    await setRootTime(root, mtime);
    root.sync();
    return true;
  } catch {
    return false;
  }
}

async function buildIn(
  root: Directory,
  { restoring: area, before: aside }: ReturnType<typeof makeAreas>,
  mtime: bigint,
  options: BuildOptions,
): Promise<BuiltTree> {
  const { root: _, id, select, index, overwrite: __, needed: ___, made, takenBack: ____, ...rest } = options;
  const { mtime: madeAt, ...owner } = root.meta();
  const before = { ...owner, mtime };
  const base = encodeBase({ mtime, madeAt });
  const record = {
    ...{ restoring: identityOf(area), before: identityOf(aside) },
    ...{ base: sumBase(base), root: identityOf(root) },
  };
  const live = new OpenDirectories(root);
  let target: Directory | undefined;
  try {
    made?.(record);
    target = prepareArea(root, area, base);
    const { progress, heard } = steady(options.progress);
    // Fails before anything is fetched, and long before any service is stopped.
    if (!select) await checkSteps(root, planWhole(root, target, before), area);
    const counts = { equal: 0, newer: 0 };
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
    const found = openAreas(root, id, record);
    found.restoring.area.close();
    found.before.area.close();
    return { ...extracted, ...counts, areas: { ...record, tree: identityOf(target) } };
  } finally {
    target?.close();
    live.close();
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

/**
 * Takes back the incomplete parts of a restore or rollback: the built tree, and an interrupted exchange. A complete
 * exchange stays. Can be called at any time, and repeatedly. A directory that is not the recorded one stays as it is.
 *
 * @param record the areas, as the journal shows them
 * @throws TREE_HALF_RESTORED if the volume is another one than the recorded one; the errors of {@link undoExchange}
 */
export async function undoIncomplete(
  rootPath: string,
  id: string,
  { record, ...options }: EndOptions & { record: AreaRecord },
): Promise<EndedExchange> {
  return inVolume(rootPath, async (root) => {
    const { before: identity, ended: recorded } = record;
    const known = knownIn(id, record);
    if (!known && isOtherRoot(root, record.root)) throw otherRoot(root, areaName('restoring', id));
    const ended: EndedExchange = known
      ? await undoExchange(root, { ...known, ...(recorded ? { ended: recorded } : {}) }, options)
      : { now: 'old', ...recorded, left: [] };
    if (ended.unrecorded) return ended;
    const aside = known ? undefined : leftIn(root, areaName('before', id), identity);
    const built = leftIn(root, areaName('restoring', id), record.restoring);
    try {
      const { mtime } = root.meta();
      const base = record.base !== undefined && built ? readBase(built.area, record.base) : undefined;
      // The file is removed last: after an interrupted removal, the next one still recognises the area.
      if (built && base !== undefined) removeArea(root, built, options.heard, [BASE]);
      else if (built && !removeUnused(root, built)) ended.left.push(built.name);
      if (aside && !removeUnused(root, aside)) ended.left.push(aside.name);
      const former = ended.now === 'old' ? base?.mtime : undefined;
      if (built || aside) await setRootTime(root, former ?? mtime);
    } finally {
      aside?.area.close();
      built?.area.close();
    }
    root.sync();
    return ended;
  });
}

function leftIn(root: Directory, name: string, identity: Identity | undefined) {
  return identity === undefined ? findUnrecorded(root, name) : findArea(root, name, identity);
}

function checkSpace(root: Directory, needed: number): void {
  const free = root.free();
  if (free >= needed) return;
  const [has, needs] = formatBoth(free, needed);
  throw new LifeboatError('TREE_TARGET_FULL', `${root.place} has ${has} free, but the restore needs ${needs}`, {
    hint: SPACE_HINT,
  });
}

const SPACE_HINT =
  'Restore only a part with --path, elsewhere with --to-directory, or free some space: `lifeboat status` shows the data that earlier restores keep.';

/** Records the root's metadata in an area, and returns the directory in it for the tree. */
function prepareArea(root: Directory, area: Directory, base: string): Directory {
  writeBase(area, base);
  root.sync();
  return createOwn(area, BUILT);
}
