import path from 'node:path';
import { LifeboatError } from '../errors.ts';
import { type AreaKind, areaName, parseAreaName } from './area.ts';
import { builtPath, rootBefore } from './build-beside.ts';
import { Directory } from './directory.ts';
import { exchange } from './exchange.ts';
import { planBack, planMerge, planWhole } from './exchange-plan.ts';
import { exchangeState, readMoves } from './move-list.ts';
import { KEPT, setMeta } from './settle.ts';
import { walk } from './walk.ts';

/** What a restore left in a volume beside the data. */
export interface VolumeArea {
  kind: AreaKind;
  /** of the restore or rollback that made it: rolls it back */
  id: string;
  /** ISO time; absent when it cannot be told */
  at?: string;
  snapshot?: string;
  files: number;
  bytes: number;
}

/** What an exchange came to. `area`: the id under which what was replaced is kept; absent when nothing was. */
export interface Exchanged {
  area?: string;
  /** how long the volume was neither the old nor the new, milliseconds */
  swapMs: number;
}

interface Swap {
  root: string;
  /** of this restore or rollback: the area for what is replaced has it */
  id: string;
  at: string;
  /** See `ExchangeRequest`. */
  heard?(): void;
}

/** Puts a tree that `buildBeside` made under the same id in place. `whole`: instead of all that is there. */
export async function swapBuilt(swap: Swap & { whole: boolean; snapshot: string }): Promise<Exchanged> {
  const before = rootBefore(swap.root, swap.id);
  const plan = swap.whole ? planWhole : planMerge;
  return timed(swap.id, () =>
    exchange({ ...swap, incoming: builtPath(swap.id) }, (root, incoming) => plan(root, incoming, before)),
  );
}

/**
 * Brings back what an area keeps; what it replaces is kept in a new area, so that the same undoes it.
 *
 * @throws NOTHING_TO_ROLL_BACK when there is no such area
 */
export async function rollBackArea(swap: Swap & { area: string }): Promise<Exchanged> {
  const directory = path.join(swap.root, areaName('before', swap.area));
  if ((await exchangeState(directory)) !== 'done') throw gone(swap.area);
  const { header, steps } = await readMoves(directory);
  const top = Directory.open(swap.root);
  const before = top.meta();
  // A merge that replaced nothing has no tree; there is something to take back all the same.
  top.make(areaName('before', swap.area)).make(KEPT).close();
  top.close();
  const { whole, snapshot } = header;
  const request = {
    ...swap,
    whole,
    ...(snapshot ? { snapshot } : {}),
    incoming: `${path.basename(directory)}/${KEPT}`,
  };
  return timed(swap.id, () =>
    exchange(request, (root, incoming) =>
      whole ? planWhole(root, incoming, before) : planBack(root, incoming, steps(), before),
    ),
  );
}

/** Deletes an area, for good. Succeeds when there is none. */
export async function forgetArea(root: string, area: string, heard: () => void): Promise<void> {
  const top = Directory.open(root);
  try {
    const meta = top.meta();
    const name = areaName('before', area);
    if (!top.look(name)) return;
    top.remove(name, heard);
    await setMeta(root, top, meta);
    top.sync();
  } finally {
    top.close();
  }
}

/** All areas in a volume, with what they hold. */
export async function listAreas(root: string, signal?: AbortSignal): Promise<VolumeArea[]> {
  const top = Directory.open(root);
  const names = top.names();
  top.close();
  const areas: VolumeArea[] = [];
  for (const name of names) {
    const parsed = parseAreaName(name);
    if (!parsed) continue;
    const area: VolumeArea = { ...parsed, files: 0, bytes: 0 };
    const directory = path.join(root, name);
    if ((await exchangeState(directory)) === 'done') {
      const { header } = await readMoves(directory);
      area.at = header.at;
      if (header.snapshot) area.snapshot = header.snapshot;
    }
    for await (const { path: inside, stat } of walk(directory, signal ? { signal } : {})) {
      if (!inside.startsWith(`${KEPT}/`) || !stat || stat.type === 'directory') continue;
      area.files++;
      area.bytes += stat.size;
    }
    areas.push(area);
  }
  return areas;
}

async function timed(id: string, work: () => Promise<{ kept: boolean; swapMs: number }>): Promise<Exchanged> {
  const { kept, swapMs } = await work();
  return { ...(kept ? { area: id } : {}), swapMs };
}

function gone(area: string): LifeboatError {
  return new LifeboatError('NOTHING_TO_ROLL_BACK', `what ${area} replaced is not in the volume any more`, {
    hint: 'It was removed by hand or forgotten. A snapshot can be restored instead.',
  });
}
