import { closeSync } from 'node:fs';
import { LifeboatError } from '../../base/errors.ts';
import { areaName, parseAreaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { builtPath } from './build-tree.ts';
import { KEPT, setMeta } from './directory-meta.ts';
import { exchange } from './exchange.ts';
import { planBack, planMerge, planWhole } from './exchange-plan.ts';
import { FORGOTTEN, type KnownArea, reclaim, untrusted } from './known-area.ts';
import { areasIn, inVolume, type VolumeArea } from './list-areas.ts';
import { checkSteps, unmovable } from './movable.ts';
import { readMoves } from './move-list.ts';
import { type AreaRecord, removeArea } from './own-area.ts';
import { rootBefore } from './root-base.ts';
import type { Ended } from './volume-state.ts';

/** The result of an exchange. `kept`: the area that holds the replaced data; absent if nothing was replaced. */
export interface Exchanged {
  kept?: KnownArea;
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
  begun?(known: KnownArea): void;
  ended?(state: Ended): void;
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
  areas?: AreaRecord;
}): Promise<Exchanged> {
  return inVolume(swap.root, async (root) => {
    if (empty) checkEmpty(root);
    const before = rootBefore(root, swap.id, made);
    const plan = swap.whole ? planWhole : planMerge;
    const about = { restore: swap.id, holds: 'before' as const, incoming: builtPath(swap.id) };
    const done = await exchange({ ...swap, ...about, made, root }, (_, incoming) => plan(root, incoming, before));
    return { ...done, holds: about.holds };
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
 * undoes it. `check`: only checks whether the rollback is possible. `known`: the record of the area; without one, the
 * area is found by its name, and its owner shows who made it.
 *
 * @throws NOTHING_TO_ROLL_BACK if the volume holds no data of that restore; TREE_TARGET_REFUSED
 */
export async function rollBackArea(swap: Swap & { restore: string; check?: boolean } & Recorded): Promise<Exchanged> {
  const { restore, check: _, known, ...rest } = swap;
  return inVolume(swap.root, async (root) => {
    const areas = await areasIn(root, { measure: false, known: known ? [known] : [] });
    const found = areas.find((one) => one.restore === restore || refersTo(known, one));
    if (found?.missing === 'volume') throw otherVolume(restore, root);
    if (!found || found.missing) throw gone(restore);
    const name = areaName('before', found.id);
    const before = root.meta();
    if (found.refused !== undefined) throw untrusted(name, found.refused);
    if (found.forgotten) throw halfForgotten(restore);
    const area = root.enter(name);
    if (!area) throw gone(restore);
    try {
      await reclaim(root, { area, name }, recordOf(found, known));
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
      return { ...(await exchange({ ...rest, ...about, root }, (_, incoming) => plan(incoming))), holds };
    } finally {
      area.close();
    }
  });
}

/** Names the recorded area of a restore; absent: the spool has no record. */
interface Recorded {
  known?: KnownArea | undefined;
}

function refersTo(known: KnownArea | undefined, { kind, id }: VolumeArea): boolean {
  return kind === 'before' && id === known?.area;
}

/** Returns what is recorded about an area; nothing if the record is of another one. */
function recordOf(area: VolumeArea, known: KnownArea | undefined): Partial<KnownArea> {
  return known && refersTo(known, area) ? known : {};
}

/**
 * Permanently deletes the data that a restore replaced. Succeeds if there is none.
 *
 * @throws TREE_TARGET_REFUSED if the recorded area is not as Lifeboat left it
 */
export async function forgetAreas(
  rootPath: string,
  restore: string,
  heard: () => void,
  { known }: Recorded = {},
): Promise<void> {
  await inVolume(rootPath, async (root) => {
    const areas = await areasIn(root, { measure: false, known: known ? [known] : [] });
    const meta = root.meta();
    const isMeant = (area: VolumeArea) =>
      area.restore === restore || refersTo(known, area) || (area.forgotten && area.id === restore);
    const found = areas.filter(isMeant);
    if (found.some(({ missing }) => missing === 'volume')) throw otherVolume(restore, root);
    for (const area of found) await forgetArea(root, area, recordOf(area, known), heard);
    if (found.length > 0) await setMeta(root, meta);
    root.sync();
  });
}

async function forgetArea(
  root: Directory,
  { id, refused }: VolumeArea,
  known: Partial<KnownArea>,
  heard: () => void,
): Promise<void> {
  const name = areaName('before', id);
  if (refused !== undefined) throw untrusted(name, refused);
  const area = root.enter(name);
  if (!area) return;
  try {
    await reclaim(root, { area, name }, known);
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

/** Returns the error for put-aside data of a volume that is not the one at its place now. */
function otherVolume(restore: string, { place }: Directory): LifeboatError {
  return new LifeboatError(
    'NOTHING_TO_ROLL_BACK',
    `${place} is not the directory that restore ${restore} changed: its disk may not be mounted, or the volume was made again`,
    { hint: 'Mount it, and run the command again. Lifeboat keeps the record of the put-aside data.' },
  );
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
