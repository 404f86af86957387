import { hasCode, LifeboatError } from '../../base/errors.ts';
import { formatBoth } from '../../report/format.ts';
import { areaName } from '../filesystem/area.ts';
import { Directory, type DirectoryMeta } from '../filesystem/directory.ts';
import { setRootTime } from './directory-meta.ts';
import { openAreas } from './find-area.ts';
import { type Identity, identityOf } from './identity.ts';
import { checkChangeable } from './movable.ts';
import { type AreaRecord, createOwn, makeAreas, removeOpen } from './own-area.ts';
import { encodeBase, sumBase, writeBase } from './root-base.ts';

/** Describes the area of a tree to build, and its volume. */
export interface AreaOptions {
  /** absolute path of the volume */
  root: string;
  /** ID of the restore */
  id: string;
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

/** The directory of the built tree, inside its area. */
export const BUILT = 'tree';

/** Where a tree is built: the root of the volume, its metadata, the area, and the empty directory for the tree. */
export interface Building {
  root: Directory;
  before: DirectoryMeta;
  area: Directory;
  target: Directory;
}

/**
 * Makes the areas of a restore at the top of a volume, and has `fill` build the tree in one of them.
 *
 * @throws TREE_TARGET_FULL, before anything is written or later; what `fill` throws. A failed build leaves nothing
 *   behind.
 */
export async function buildInArea<T>(
  options: AreaOptions,
  fill: (building: Building) => Promise<T>,
): Promise<T & { areas: BuiltAreas }> {
  const { takenBack, root: path } = options;
  const root = Directory.open(path);
  let areas: ReturnType<typeof makeAreas> | undefined;
  const { mtime } = root.meta();
  try {
    checkSpace(root, options.needed);
    checkChangeable(root, '');
    areas = makeAreas(root, options.id);
    return await buildIn(root, areas, mtime, { options, fill });
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
    removeOpen(root, areas.restoring, areaName('restoring', id, root.place));
    removeOpen(root, areas.before, areaName('before', id, root.place));
    await setRootTime(root, mtime);
    root.sync();
    return true;
  } catch {
    return false;
  }
}

async function buildIn<T>(
  root: Directory,
  { restoring: area, before: aside }: ReturnType<typeof makeAreas>,
  mtime: bigint,
  { options: { id, made }, fill }: { options: AreaOptions; fill: (building: Building) => Promise<T> },
): Promise<T & { areas: BuiltAreas }> {
  const { mtime: madeAt, ...owner } = root.meta();
  const before = { ...owner, mtime };
  const base = encodeBase({ mtime, madeAt });
  const record = {
    ...{ restoring: identityOf(area), before: identityOf(aside) },
    ...{ base: sumBase(base), root: identityOf(root) },
  };
  let target: Directory | undefined;
  try {
    made?.(record);
    target = prepareArea(root, area, base);
    const built = await fill({ root, before, area, target });
    const found = openAreas(root, id, record);
    found.restoring.area.close();
    found.before.area.close();
    return { ...built, areas: { ...record, tree: identityOf(target) } };
  } finally {
    target?.close();
  }
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
