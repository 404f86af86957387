import { LifeboatError } from '../../base/errors.ts';
import { areaName, parseAreaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';
import { BUILT, type BuiltAreas } from './build-area.ts';
import { KEPT, setRootTime } from './directory-meta.ts';
import { type Exchanged, exchange } from './exchange.ts';
import { planBack, planMerge, planWhole } from './exchange-plan.ts';
import { isOtherRoot, openAreas } from './find-area.ts';
import type { EndOptions } from './finish-exchange.ts';
import { identityOf, isSame } from './identity.ts';
import { inVolume } from './in-volume.ts';
import { type KnownArea, lockArea, recogniseInPlace, takeOwnership, untrusted } from './known-area.ts';
import { checkSteps, unmovable } from './movable.ts';
import { OWN_FILES, readMoves } from './move-list.ts';
import { type AreaRecord, createOwn, type FoundArea, notOurs, removeArea, removeOpen } from './own-area.ts';

interface Swap extends Pick<EndOptions, 'ended' | 'heard'> {
  root: string;
  /** ID of this restore or rollback; the area for the replaced data is named after it */
  id: string;
  at: string;
  /** see `ExchangeRequest` */
  begun?(known: KnownArea): void;
}

/**
 * Moves a tree that {@link buildTree} built under the same ID into place. `whole`: replaces everything in the volume.
 * `empty`: only if the volume is empty. `areas`: what `buildTree` returned. Refuses a directory that replaced one of
 * them since.
 *
 * @throws TREE_TARGET_NOT_EMPTY with `empty`; everything that {@link exchange} throws. Nothing has changed then.
 */
export async function swapBuilt({
  empty,
  areas,
  id,
  at,
  whole,
  snapshot,
  ...swap
}: Swap & { whole: boolean; empty?: boolean; snapshot: string; areas: BuiltAreas }): Promise<Exchanged> {
  return inVolume(swap.root, async (root) => {
    if (empty) checkEmpty(root);
    const { restoring, before: area, mtime } = openAreas(root, id, areas);
    const incoming = restoring.area.enter(BUILT);
    try {
      if (!incoming || !isSame(incoming, areas.tree)) throw notOurs(BUILT);
      const before = { ...root.meta(), mtime };
      const plan = whole ? planWhole : planMerge;
      return await exchange(
        {
          ...{ ...swap, root, area, source: restoring, proof: { base: areas.base }, incoming, inside: BUILT },
          about: { id, at, whole, snapshot, restore: id, holds: 'before' },
        },
        () => plan(root, incoming, before),
      );
    } finally {
      incoming?.close();
      restoring.area.close();
      area.area.close();
    }
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

interface RollBack extends Swap {
  restore: string;
  /** the record of the old data */
  known: KnownArea;
  /** only checks whether the rollback is possible, and changes nothing */
  check?: boolean;
  /** called when the area for the replaced data exists, before anything is written into it */
  made?(record: AreaRecord): void;
}

/**
 * Brings back the data that a restore replaced. The data that this replaces moves to a new area, so the same call
 * undoes it.
 *
 * @throws NOTHING_TO_ROLL_BACK if the old data is gone; TREE_TARGET_REFUSED if it is not as Lifeboat left it
 */
export async function rollBackArea(request: RollBack): Promise<Exchanged> {
  const { restore, known, id, check } = request;
  return inVolume(request.root, async (root) => {
    if (known.forgotten) throw halfForgotten(restore);
    const source = await openKnown(root, known);
    if (!source) throw isOtherRoot(root, known.root) ? otherVolume(root) : gone(restore);
    const { mtime } = root.meta();
    try {
      if (!check) await lockArea(root, source, known);
      const name = areaName('before', id, root.place);
      const area = { area: createOwn(root, name), name };
      try {
        return await (check ? checkBack : swapBack)({ root, source, area, mtime }, request);
      } finally {
        if (check) {
          removeOpen(root, area.area, name);
          await setRootTime(root, mtime);
        }
        area.area.close();
      }
    } finally {
      source.area.close();
    }
  });
}

/** Opens a recorded area. Returns undefined if it is gone. @throws TREE_TARGET_REFUSED */
async function openKnown(root: Directory, known: KnownArea): Promise<FoundArea | undefined> {
  const recognised = await recogniseInPlace(root, known);
  if (recognised?.refused === undefined) return recognised?.found;
  throw untrusted(areaName('before', known.area, root.place), recognised.refused);
}

/** `area`: the one for the replaced data, which holds nothing; `mtime`: of the root before it was made */
interface OpenRollBack {
  root: Directory;
  source: FoundArea;
  area: FoundArea;
  mtime: bigint;
}

async function swapBack(
  { root, source, area, mtime }: OpenRollBack,
  { restore, known, id, at, made, ...swap }: RollBack,
): Promise<Exchanged> {
  const before = { ...root.meta(), mtime };
  made?.({ before: identityOf(area.area) });
  const { header, steps } = await readMoves(source.area, known.area);
  // A merge that replaced nothing has no tree, but files that it brought in can still be taken back.
  const incoming = source.area.make(KEPT);
  try {
    const { whole, snapshot } = header;
    const holds = header.holds === 'before' ? 'restored' : 'before';
    return await exchange(
      {
        ...{ ...swap, root, area, source, proof: { list: known.list, size: known.size }, incoming, inside: KEPT },
        about: { id, at, whole, restore, holds, ...(snapshot ? { snapshot } : {}) },
      },
      () => (whole ? planWhole(root, incoming, before) : planBack(root, incoming, steps(), before)),
    );
  } finally {
    incoming.close();
  }
}

/** Checks that everything can be moved. */
async function checkBack({ root, source, area }: OpenRollBack, { known }: RollBack): Promise<Exchanged> {
  const before = root.meta();
  const { header, steps } = await readMoves(source.area, known.area, true);
  const incoming = source.area.enter(KEPT) ?? area.area.make(KEPT);
  try {
    const plan = header.whole ? planWhole(root, incoming, before) : planBack(root, incoming, steps(), before);
    await checkSteps(root, plan, area.area, incoming);
    return { swapMs: 0, left: [] };
  } finally {
    incoming.close();
  }
}

/**
 * Permanently deletes old data. Succeeds if it is gone. The caller records that the deletion has begun.
 *
 * @param check only checks whether the area is the recorded one
 * @throws TREE_TARGET_REFUSED if the recorded area is not as Lifeboat left it; NOTHING_TO_ROLL_BACK if the volume is
 *   another one
 */
export async function forgetArea(
  rootPath: string,
  known: KnownArea,
  heard: () => void = () => undefined,
  check = false,
): Promise<void> {
  await inVolume(rootPath, async (root) => {
    const { mtime } = root.meta();
    const found = await openKnown(root, known);
    if (!found && isOtherRoot(root, known.root)) throw otherVolume(root);
    if (!found) return;
    try {
      if (check) return;
      takeOwnership(root, found);
      // The list is removed last: after an interrupted deletion, the next one still recognises the area.
      removeArea(root, found, heard, OWN_FILES);
    } catch (error) {
      throw unmovable(error, root, found.name, 'deleted');
    } finally {
      found.area.close();
    }
    await setRootTime(root, mtime);
    root.sync();
  });
}

/** Returns the error for old data of a volume that is not the one at its place now. */
function otherVolume({ place }: Directory): LifeboatError {
  return new LifeboatError(
    'NOTHING_TO_ROLL_BACK',
    `${place} is not the directory that the restore changed: its disk may not be mounted, or the volume was made again`,
    { hint: 'Mount it, and run the command again. Lifeboat keeps the record of the old data.' },
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
