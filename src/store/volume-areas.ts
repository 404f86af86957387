import path from 'node:path';
import { LifeboatError } from '../errors.ts';
import { type AreaKind, areaName, parseAreaName } from './area.ts';
import { builtPath, rootBefore } from './build-beside.ts';
import { Directory, within } from './directory.ts';
import { exchange } from './exchange.ts';
import { planBack, planMerge, planWhole } from './exchange-plan.ts';
import { exchangeState, readMoves } from './move-list.ts';
import { KEPT, setMeta } from './settle.ts';
import { walk } from './walk.ts';

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
 * there is nothing.
 *
 * @throws TREE_TARGET_NOT_EMPTY with `empty`, and what an exchange does; then everything is where it was
 */
export async function swapBuilt({
  empty,
  ...swap
}: Swap & { whole: boolean; empty?: boolean; snapshot: string }): Promise<Exchanged> {
  if (empty) checkEmpty(swap.root);
  const before = rootBefore(swap.root, swap.id);
  const plan = swap.whole ? planWhole : planMerge;
  const about = { restore: swap.id, holds: 'before' as const, incoming: builtPath(swap.id) };
  return exchanged(swap, about.holds, () =>
    exchange({ ...swap, ...about }, (root, incoming) => plan(root, incoming, before)),
  );
}

function checkEmpty(rootPath: string): void {
  const root = Directory.open(rootPath);
  const found = root.names().find((name) => !parseAreaName(name));
  root.close();
  if (found === undefined) return;
  throw new LifeboatError('TREE_TARGET_NOT_EMPTY', 'something was written there since the restore began', {
    hint: 'Nothing was changed. Start the restore again: it then shows what it would replace, and keeps it.',
  });
}

/**
 * Brings back the data that is kept of a restore; what it replaces is kept in a new area, so that the same undoes it.
 *
 * @throws NOTHING_TO_ROLL_BACK when nothing is kept of that restore
 */
export async function rollBackArea(swap: Swap & { restore: string }): Promise<Exchanged> {
  const { root: rootPath, restore } = swap;
  const area = (await listAreas(rootPath, { measure: false })).find((one) => one.restore === restore);
  if (!area) throw gone(restore);
  const name = areaName('before', area.id);
  const { header, steps } = await readMoves(path.join(rootPath, name));
  const top = Directory.open(rootPath);
  const before = top.meta();
  // A merge that replaced nothing has no tree; there is something to take back all the same.
  within(top, name, (directory) => directory.make(KEPT).close());
  top.close();
  const holds = header.holds === 'before' ? ('restored' as const) : ('before' as const);
  const { whole, snapshot } = header;
  const request = { ...swap, restore, holds, whole, ...(snapshot ? { snapshot } : {}), incoming: `${name}/${KEPT}` };
  return exchanged(swap, holds, () =>
    exchange(request, (root, incoming) =>
      whole ? planWhole(root, incoming, before) : planBack(root, incoming, steps(), before),
    ),
  );
}

/** Deletes what is kept of a restore, for good. Succeeds when there is nothing. */
export async function forgetAreas(root: string, restore: string, heard: () => void): Promise<void> {
  const areas = await listAreas(root, { measure: false });
  const top = Directory.open(root);
  try {
    const meta = top.meta();
    const ours = areas.filter((area) => area.kind === 'before' && (area.restore ?? area.id) === restore);
    for (const { id } of ours) top.remove(areaName('before', id), heard);
    if (ours.length > 0) await setMeta(root, top, meta);
    top.sync();
  } finally {
    top.close();
  }
}

/** All areas in a volume, with what they hold, unless that is not to be counted. */
export async function listAreas(
  root: string,
  { measure = true, signal }: { measure?: boolean; signal?: AbortSignal } = {},
): Promise<VolumeArea[]> {
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
      const { at, restore, holds, snapshot } = header;
      Object.assign(area, { at, restore, holds, ...(snapshot ? { snapshot } : {}) });
    }
    areas.push(area);
    if (!measure) continue;
    for await (const { path: inside, stat } of walk(directory, signal ? { signal } : {})) {
      if (!inside.startsWith(`${KEPT}/`) || !stat || stat.type === 'directory') continue;
      area.files++;
      area.bytes += stat.size;
    }
  }
  return areas;
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
