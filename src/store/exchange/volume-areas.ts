import { closeSync } from 'node:fs';
import { LifeboatError } from '../../base/errors.ts';
import { type AreaKind, areaName, parseAreaName } from '../filesystem/area.ts';
import { Directory } from '../filesystem/directory.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { walk } from '../filesystem/walk.ts';
import { builtPath, rootBefore } from './build-beside.ts';
import { exchange } from './exchange.ts';
import { planBack, planMerge, planWhole } from './exchange-plan.ts';
import { checkSteps, unmovable } from './movable.ts';
import { exchangeState, readMoves } from './move-list.ts';
import { KEPT, setMeta } from './settle.ts';

/** What a restore left in a volume beside the data. */
export interface VolumeArea {
  kind: AreaKind;
  /** of the restore or rollback that made it */
  id: string;
  /** the restore that is rolled back with it, and which data it keeps; absent when it cannot be told */
  restore?: string;
  holds?: 'before' | 'restored';
  /** ISO time; absent when it cannot be told */
  at?: string;
  snapshot?: string;
  files: number;
  bytes: number;
}

/** What an exchange came to. `area`: the id under which what was replaced is kept; absent when nothing was. */
export interface Exchanged {
  area?: string;
  /** what the area keeps */
  holds: 'before' | 'restored';
  /** how long the volume was neither the old nor the new, milliseconds */
  swapMs: number;
}

interface Swap {
  root: string;
  /** of this restore or rollback: the area for what is replaced has it */
  id: string;
  at: string;
  /** See `ExchangeRequest`. */
  begun?(): void;
  heard?(): void;
}

/**
 * Puts a tree that `buildBeside` made under the same id in place. `whole`: instead of all that is there; `empty`: only while
 * there is nothing. `expected`: the inode that `buildBeside` told; a directory that was put there since is refused.
 *
 * @throws TREE_TARGET_NOT_EMPTY with `empty`, and what an exchange does; then everything is where it was
 */
export async function swapBuilt({
  empty,
  ...swap
}: Swap & { whole: boolean; empty?: boolean; snapshot: string; expected?: string }): Promise<Exchanged> {
  return inVolume(swap.root, async (root) => {
    if (empty) checkEmpty(root);
    const before = rootBefore(root, swap.id);
    const plan = swap.whole ? planWhole : planMerge;
    const about = { restore: swap.id, holds: 'before' as const, incoming: builtPath(swap.id) };
    return exchanged(swap, about.holds, () =>
      exchange({ ...swap, ...about, root }, (_, incoming) => plan(root, incoming, before)),
    );
  });
}

function checkEmpty(root: Directory): void {
  const found = root.names().find((name) => !parseAreaName(name));
  if (found === undefined) return;
  throw new LifeboatError('TREE_TARGET_NOT_EMPTY', 'something was written there since the restore began', {
    hint: 'Nothing was changed. Start the restore again: it then shows what it would replace, and keeps it.',
  });
}

/**
 * Brings back the data that is kept of a restore; what it replaces is kept in a new area, so that the same undoes it.
 * `check`: only finds out whether it could.
 *
 * @throws NOTHING_TO_ROLL_BACK when nothing is kept of that restore; TREE_TARGET_REFUSED
 */
export async function rollBackArea(swap: Swap & { restore: string; check?: boolean }): Promise<Exchanged> {
  const { restore, check: _, ...rest } = swap;
  return inVolume(swap.root, async (root) => {
    const found = (await areasIn(root, { measure: false })).find((one) => one.restore === restore);
    if (!found) throw gone(restore);
    const name = areaName('before', found.id);
    const before = root.meta();
    const area = root.enter(name);
    if (!area) throw gone(restore);
    try {
      if (area.look(FORGOTTEN)) throw gone(restore);
      const { header, steps } = await readMoves(area);
      // A merge that replaced nothing has no tree; there is something to take back all the same.
      area.make(KEPT).close();
      const holds = header.holds === 'before' ? ('restored' as const) : ('before' as const);
      const { whole, snapshot } = header;
      const about = { restore, holds, whole, ...(snapshot ? { snapshot } : {}), incoming: `${name}/${KEPT}` };
      const plan = (incoming: Directory) =>
        whole ? planWhole(root, incoming, before) : planBack(root, incoming, steps(), before);
      if (swap.check) {
        const kept = area.enter(KEPT) as Directory;
        await checkSteps(root, plan(kept), name).finally(() => kept.close());
        return { holds, swapMs: 0 };
      }
      return await exchanged(swap, holds, () => exchange({ ...rest, ...about, root }, (_, incoming) => plan(incoming)));
    } finally {
      area.close();
    }
  });
}

/** Deletes what is kept of a restore, for good. Succeeds when there is nothing. */
export async function forgetAreas(rootPath: string, restore: string, heard: () => void): Promise<void> {
  await inVolume(rootPath, async (root) => {
    const areas = await areasIn(root, { measure: false });
    const meta = root.meta();
    const ours = areas.filter((area) => area.kind === 'before' && (area.restore ?? area.id) === restore);
    for (const { id } of ours) forgetArea(root, areaName('before', id), heard);
    if (ours.length > 0) await setMeta(root, meta);
    root.sync();
  });
}

/** In an area of which a part may be deleted: nothing of it is brought back. */
const FORGOTTEN = 'forgotten';

function forgetArea(root: Directory, name: string, heard: () => void): void {
  const area = root.enter(name);
  try {
    if (area && !area.look(FORGOTTEN)) closeSync(area.createFile(FORGOTTEN));
    area?.sync();
    // What tells of the area goes last, so that it can be forgotten again.
    if (area) removeTree(area, KEPT, heard);
  } catch (error) {
    throw unmovable(error, root, name, 'deleted');
  } finally {
    area?.close();
  }
  removeTree(root, name, heard);
}

/** All areas in a volume, with what they hold, unless that is not to be counted. */
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
    const directory = parsed && root.enter(name);
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
    // A list that somebody damaged tells nothing, and keeps nobody from the other areas.
    const { header } = await readMoves(directory).catch(() => ({ header: undefined }));
    if (header) {
      const { at, restore, holds, snapshot } = header;
      Object.assign(area, { at, restore, holds, ...(snapshot ? { snapshot } : {}) });
    }
  }
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
  return new LifeboatError('NOTHING_TO_ROLL_BACK', `nothing is kept of restore ${restore} in the volume`, {
    hint: 'It was removed by hand or forgotten. A snapshot can be restored instead.',
  });
}
