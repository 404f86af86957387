import { extractTree } from '../content/extract-tree.ts';
import type { ExtractedTree, ExtractTreeOptions } from '../content/extracted-tree.ts';
import { areaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import { OpenDirectories } from '../filesystem/open-directories.ts';
import { split } from '../filesystem/path.ts';
import type { IndexLine } from '../filesystem/read-index.ts';
import { type AreaOptions, type Building, type BuiltAreas, buildInArea } from './build-area.ts';
import { differing } from './differing.ts';
import { setRootTime } from './directory-meta.ts';
import { planMerge, planWhole } from './exchange-plan.ts';
import { findArea, findUnrecorded, isOtherRoot, removeUnused } from './find-area.ts';
import type { EndedExchange, EndOptions } from './finish-exchange.ts';
import type { Identity } from './identity.ts';
import { inVolume } from './in-volume.ts';
import { knownIn } from './known-area.ts';
import { copyEqualFile } from './live-file.ts';
import { checkSteps } from './movable.ts';
import { type AreaRecord, removeArea, withoutAreas } from './own-area.ts';
import { BASE, readBase } from './root-base.ts';
import { otherRoot, undoExchange } from './undo-exchange.ts';

/** Describes the tree to build, and the volume to build it in. */
export interface BuildOptions
  extends AreaOptions,
    Pick<ExtractTreeOptions, 'packs' | 'destination' | 'keys' | 'spool' | 'signal' | 'progress'> {
  /** reads the index; each call starts at its beginning */
  index(): AsyncIterable<IndexLine>;
  /** selects the paths to restore, of which only those that differ from the volume are built; absent: the whole tree */
  select?: PathPredicate | undefined;
  /** with `select`: also replaces files that are newer in the volume than in the index */
  overwrite: boolean;
}

/** The result of a build. `files` and `bytes` leave out what was not built because the volume holds it already. */
export interface BuiltTree extends ExtractedTree {
  /** with a selection: files that are equal already, and newer files in the volume that were not to be replaced */
  equal: number;
  newer: number;
  areas: BuiltAreas;
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
export function buildTree(options: BuildOptions): Promise<BuiltTree> {
  return buildInArea(options, (building) => extractBeside(building, options));
}

async function extractBeside(
  { root, before, area, target }: Building,
  options: BuildOptions,
): Promise<Omit<BuiltTree, 'areas'>> {
  const {
    root: _,
    id: __,
    select,
    index,
    overwrite: ___,
    needed: ____,
    made: _____,
    takenBack: ______,
    ...rest
  } = options;
  const live = new OpenDirectories(root);
  try {
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
    return { ...extracted, ...counts };
  } finally {
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
    if (!known && isOtherRoot(root, record.root)) throw otherRoot(root, areaName('restoring', id, root.place));
    const ended: EndedExchange = known
      ? await undoExchange(root, { ...known, ...(recorded ? { ended: recorded } : {}) }, options)
      : { now: 'old', ...recorded, left: [] };
    if (ended.unrecorded) return ended;
    const aside = known ? undefined : leftIn(root, areaName('before', id, root.place), identity);
    const built = leftIn(root, areaName('restoring', id, root.place), record.restoring);
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
