import { closeSync } from 'node:fs';
import { LifeboatError } from '../../base/errors.ts';
import { type AreaKind, areaName, parseAreaName } from '../filesystem/area.ts';
import { Directory } from '../filesystem/directory.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { walk } from '../filesystem/walk.ts';
import { builtPath, rootBefore } from './build-tree.ts';
import { KEPT, setMeta } from './directory-meta.ts';
import { exchange } from './exchange.ts';
import { planBack, planMerge, planWhole } from './exchange-plan.ts';
import { checkSteps, unmovable } from './movable.ts';
import { exchangeState, readMoves } from './move-list.ts';
import { type AreaInodes, enterArea, removeArea } from './own-area.ts';

/** An area that a restore or rollback left in a volume, next to the data. */
export interface VolumeArea {
  kind: AreaKind;
  /** ID of the restore or rollback that made the area */
  id: string;
  /** ID of the restore that this area can roll back, and which data it holds; absent if unknown */
  restore?: string;
  holds?: 'before' | 'restored';
  /** ISO time; absent if unknown */
  at?: string;
  snapshot?: string;
  files: number;
  bytes: number;
  /** its deletion was interrupted, so that nothing can be brought back from it */
  forgotten?: true;
}

/** The result of an exchange. `area`: ID of the area that holds the replaced data; absent if nothing was replaced. */
export interface Exchanged {
  area?: string;
  /** the data in the area */
  holds: 'before' | 'restored';
  /** how long the volume was between the old and the new state, milliseconds */
  swapMs: number;
}

interface Swap {
  root: string;
  /** ID of this restore or rollback; the area for the replaced data is named after it */
  id: string;
  at: string;
  /** see `ExchangeRequest` */
  begun?(inode: string): void;
  heard?(): void;
}

/**
 * Moves a tree that {@link buildTree} built under the same ID into place. `whole`: replaces everything in the volume.
 * `empty`: only if the volume is empty. `expected` and `areas`: the inodes that `buildTree` returned. Refuses a
 * directory that replaced one of them since.
 *
 * @throws TREE_TARGET_NOT_EMPTY with `empty`; everything that {@link exchange} throws. Nothing has changed then.
 */
export async function swapBuilt({
  empty,
  areas: made = {},
  ...swap
}: Swap & {
  whole: boolean;
  empty?: boolean;
  snapshot: string;
  expected?: string;
  areas?: AreaInodes;
}): Promise<Exchanged> {
  return inVolume(swap.root, async (root) => {
    if (empty) checkEmpty(root);
    const before = rootBefore(root, swap.id, made);
    const plan = swap.whole ? planWhole : planMerge;
    const about = { restore: swap.id, holds: 'before' as const, incoming: builtPath(swap.id) };
    return exchanged(swap, about.holds, () =>
      exchange({ ...swap, ...about, made, root }, (_, incoming) => plan(root, incoming, before)),
    );
  });
}

function checkEmpty(root: Directory): void {
  const found = root.names().find((name) => !parseAreaName(name));
  if (found === undefined) return;
  throw new LifeboatError(
    'TREE_TARGET_NOT_EMPTY',
    'another program has written to the volume since the restore began',
    {
      hint: 'Nothing was changed. Start the restore again: it shows the data that it would replace, and keeps it for a rollback.',
    },
  );
}

/**
 * Brings back the data that a restore replaced. The data that this replaces moves to a new area, so the same call
 * undoes it. `check`: only checks whether the rollback is possible.
 *
 * @throws NOTHING_TO_ROLL_BACK if the volume holds no data of that restore; TREE_TARGET_REFUSED
 */
export async function rollBackArea(swap: Swap & { restore: string; check?: boolean }): Promise<Exchanged> {
  const { restore, check: _, ...rest } = swap;
  return inVolume(swap.root, async (root) => {
    const found = (await areasIn(root, { measure: false })).find((one) => one.restore === restore);
    if (!found) throw gone(restore);
    const name = areaName('before', found.id);
    const before = root.meta();
    if (found.forgotten) throw halfForgotten(restore);
    const area = enterArea(root, name);
    if (!area) throw gone(restore);
    try {
      const { header, steps } = await readMoves(area, found.id);
      // A merge that replaced nothing has no tree, but files that it brought in can still be taken back.
      area.make(KEPT).close();
      const holds = header.holds === 'before' ? ('restored' as const) : ('before' as const);
      const { whole, snapshot } = header;
      const about = { restore, holds, whole, ...(snapshot ? { snapshot } : {}), incoming: `${name}/${KEPT}` };
      const plan = (incoming: Directory) =>
        whole ? planWhole(root, incoming, before) : planBack(root, incoming, steps(), before);
      if (swap.check) {
        const kept = area.enter(KEPT) as Directory;
        await checkSteps(root, plan(kept), area).finally(() => kept.close());
        return { holds, swapMs: 0 };
      }
      return await exchanged(swap, holds, () => exchange({ ...rest, ...about, root }, (_, incoming) => plan(incoming)));
    } finally {
      area.close();
    }
  });
}

/** Permanently deletes the data that a restore replaced. Succeeds if there is none. */
export async function forgetAreas(rootPath: string, restore: string, heard: () => void): Promise<void> {
  await inVolume(rootPath, async (root) => {
    const areas = await areasIn(root, { measure: false });
    const meta = root.meta();
    const found = areas.filter((area) => area.restore === restore || (area.forgotten && area.id === restore));
    for (const { id } of found) forgetArea(root, areaName('before', id), heard);
    if (found.length > 0) await setMeta(root, meta);
    root.sync();
  });
}

/** Marks an area that is being deleted: nothing is brought back from it. */
const FORGOTTEN = 'forgotten';

function forgetArea(root: Directory, name: string, heard: () => void): void {
  const area = enterArea(root, name);
  if (!area) return;
  try {
    if (!area.look(FORGOTTEN)) closeSync(area.createFile(FORGOTTEN));
    area.sync();
    // The area's own files are removed last, so that an interrupted removal can be repeated.
    removeTree(area, KEPT, heard);
    removeArea(root, { area, name }, heard, [FORGOTTEN]);
  } catch (error) {
    throw unmovable(error, root, name, 'deleted');
  } finally {
    area.close();
  }
}

/** Lists all areas that Lifeboat made in a volume. Counts the files and bytes in them unless `measure` is false. */
export function listAreas(root: string, options: ListOptions = {}): Promise<VolumeArea[]> {
  return inVolume(root, (top) => areasIn(top, options));
}

interface ListOptions {
  measure?: boolean;
  signal?: AbortSignal;
}

async function areasIn(root: Directory, { measure = true, signal }: ListOptions): Promise<VolumeArea[]> {
  const areas: VolumeArea[] = [];
  for (const name of root.names()) {
    const parsed = parseAreaName(name);
    const directory = parsed && enterArea(root, name);
    if (!parsed || !directory) continue;
    try {
      areas.push(await describeArea(directory, parsed, measure, signal));
    } finally {
      directory.close();
    }
  }
  return areas;
}

async function describeArea(
  directory: Directory,
  parsed: { kind: AreaKind; id: string },
  measure: boolean,
  signal?: AbortSignal,
): Promise<VolumeArea> {
  const area: VolumeArea = { ...parsed, files: 0, bytes: 0 };
  if (exchangeState(directory) === 'done') {
    // A damaged list is ignored, so that the other areas are still listed.
    const { header } = await readMoves(directory, parsed.id).catch(() => ({ header: undefined }));
    if (header) {
      const { at, restore, holds, snapshot } = header;
      Object.assign(area, { at, restore, holds, ...(snapshot ? { snapshot } : {}) });
    }
  }
  if (directory.look(FORGOTTEN)) area.forgotten = true;
  if (!measure) return area;
  for await (const { path: inside, stat } of walk(directory, signal ? { signal } : {})) {
    if (!inside.startsWith(`${KEPT}/`) || !stat || stat.type === 'directory') continue;
    area.files++;
    area.bytes += stat.size;
  }
  return area;
}

async function inVolume<T>(path: string, work: (root: Directory) => Promise<T>): Promise<T> {
  const root = Directory.open(path);
  try {
    return await work(root);
  } finally {
    root.close();
  }
}

async function exchanged(
  { id }: Swap,
  holds: Exchanged['holds'],
  work: () => Promise<{ kept: boolean; swapMs: number }>,
): Promise<Exchanged> {
  const { kept, swapMs } = await work();
  return { ...(kept ? { area: id } : {}), holds, swapMs };
}

function gone(restore: string): LifeboatError {
  return new LifeboatError('NOTHING_TO_ROLL_BACK', `the volume holds no data for a rollback of restore ${restore}`, {
    hint: 'The data was removed or forgotten. Restore a snapshot instead.',
  });
}

function halfForgotten(restore: string): LifeboatError {
  return new LifeboatError('NOTHING_TO_ROLL_BACK', `the deletion of the data of restore ${restore} was interrupted`, {
    hint: `A part of it is gone, so it cannot be brought back. Run \`lifeboat rollback ${restore} --forget\` to delete the rest.`,
  });
}
