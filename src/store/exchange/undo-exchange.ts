import { LifeboatError } from '../../base/errors.ts';
import { areaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';
import { within } from '../filesystem/open-directories.ts';
import { split, type TreePath } from '../filesystem/path.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { joined, KEPT, setDirectoryMeta, setRootTime } from './directory-meta.ts';
import { findArea, isOtherRoot, whyUnproved } from './find-area.ts';
import {
  type EndedExchange,
  type EndOptions,
  finishExchange,
  holdsFiles,
  isRoot,
  type OpenExchange,
} from './finish-exchange.ts';
import { type KnownArea, lockArea, recognise } from './known-area.ts';
import { type ExchangeHeader, type ExchangeStep, exchangeState, readMoves, UNDER_WAY } from './move-list.ts';
import { type AreaRecord, type FoundArea, removeArea } from './own-area.ts';
import { eachInOrder, type Move } from './step-order.ts';

/** The directory, inside the area, for files that other programs created in the place of moved ones. */
const LATE = 'late';

const MAKE = { make: true };

/**
 * Takes back an unfinished exchange and removes its area, or completes the cleanup of a finished one. Can be called
 * again after an interruption.
 *
 * @param known the area of the exchange, and the data that is in place, as the journal records them
 * @throws TREE_HALF_RESTORED if the area is gone, or if the volume is not the recorded one; TREE_TARGET_REFUSED if the
 *   area is not as Lifeboat left it. The volume may hold a mixture then, and nothing has changed.
 */
export async function undoExchange(
  root: Directory,
  { ended, ...known }: KnownArea & Pick<AreaRecord, 'ended'>,
  options: EndOptions,
): Promise<EndedExchange> {
  const name = areaName('before', known.area, root.place);
  const recognised = await recognise(root, known);
  if (!recognised) {
    if (ended) return { ...ended, left: [] };
    throw goneFrom(root, known);
  }
  if (recognised.refused !== undefined) {
    if (ended) return { ...ended, left: [name] };
    if (removeEmptied(root, name, known)) return { now: 'unknown', left: [] };
    throw changed(name, recognised.refused);
  }
  const { found } = recognised;
  try {
    await lockArea(root, found, known);
    const { header, steps } = await readMoves(found.area, known.area);
    const source = await openSource(root, header);
    try {
      const open = { root, found, known, header, steps, source, ended };
      if (ended?.now === 'new' || exchangeState(found.area) === 'done') return await finishExchange(open, options);
      return await revertExchange(open, options);
    } finally {
      source?.area.close();
    }
  } finally {
    found.area.close();
  }
}

/** Removes the area of an exchange if somebody has emptied it by hand. Returns whether that is so. */
function removeEmptied(root: Directory, name: string, { identity }: KnownArea): boolean {
  const found = findArea(root, name, identity);
  try {
    if (!found || found.area.names().length > 0) return false;
    root.removeDirectory(found.name);
    return true;
  } finally {
    found?.area.close();
  }
}

/** Returns the error for a volume in which moves have begun, and whose area is not there. */
function goneFrom(root: Directory, { area, root: recorded }: KnownArea): LifeboatError {
  const name = areaName('before', area, root.place);
  if (isOtherRoot(root, recorded)) return otherRoot(root, name);
  return new LifeboatError('TREE_HALF_RESTORED', `${name} is gone, and some of the old data is still in it`, {
    hint: `Move ${name} back to the top of the volume, as root. Lifeboat then continues by itself. If the data is lost, \`lifeboat rollback ${area} --forget\` accepts the volume as it is.`,
  });
}

/** Returns the error for a directory that is not the recorded root of a volume. `name`: of an area in it. */
export function otherRoot({ place }: Directory, name: string): LifeboatError {
  return new LifeboatError('TREE_HALF_RESTORED', `${place} is not the directory in which ${name} was made`, {
    hint: 'Mount the disk or network file system of the volume. Lifeboat then continues by itself.',
  });
}

function changed(name: string, why: string): LifeboatError {
  const message = `an interrupted swap cannot be reversed, because ${name} is not as Lifeboat left it: ${why}`;
  return new LifeboatError('TREE_TARGET_REFUSED', message, {
    hint: `The volume may hold a part of the old data and a part of the new. Put ${name} back as it was. To keep the volume as it is instead, delete everything in ${name}, and leave the directory itself.`,
  });
}

async function openSource(root: Directory, { incoming, source }: ExchangeHeader): Promise<FoundArea | undefined> {
  const found = findArea(root, incoming.split('/')[0] as string, source.identity);
  if (!found || (await whyUnproved(found.area, source)) === undefined) return found;
  found.area.close();
  return undefined;
}

/** Moves everything back and removes the area. Files that other programs created meanwhile move to the top. */
export async function revertExchange(
  open: OpenExchange,
  { ended = () => true, heard = () => undefined }: EndOptions,
): Promise<EndedExchange> {
  const { root, found, header, source } = open;
  const left: string[] = [];
  if (!open.ended) {
    const inside = header.incoming.split('/').slice(1).join('/');
    // Another program may have moved the incoming directory away. Its content is put aside then.
    const incoming =
      (source && within(source.area, inside, (directory) => directory.enter('.'), MAKE)) ??
      within(found.area, LATE, (late) => late.enter('.'), MAKE);
    try {
      await takeBack(open, incoming as Directory, heard);
    } finally {
      incoming?.close();
    }
    left.push(...(await releaseRest(root, found.area, header.id)));
    root.sync();
  }
  if (!ended({ now: 'old' })) return { now: 'old', left, unrecorded: true };
  let { mtime } = root.meta();
  for await (const step of open.steps()) if (isRoot(step)) mtime = step.before.mtime;
  // The list is removed last, so that an interrupted removal can be repeated.
  removeArea(root, found, heard, [UNDER_WAY]);
  await setRootTime(root, mtime);
  root.sync();
  return { now: 'old', left };
}

async function takeBack(open: OpenExchange, incoming: Directory, heard: () => void): Promise<void> {
  const { root, found, steps } = open;
  // The content that `around` moved out comes back last, so the content that came in leaves first.
  await eachInOrder(open, heard, (step, half) => {
    if (step.type !== 'move') return;
    if (half !== 'in') leave(root, incoming, found.area, step);
    if (half !== 'out') comeBack(root, found.area, step);
  });
  await unmake(root, steps());
  await setDirectoryMeta(root, found.area, steps(), 'before');
  root.sync();
}

/** Returns whether a directory has a name. False without the directory. */
function holds(area: Directory, parent: TreePath, name: TreePath): boolean {
  return within(area, parent, (directory) => directory.look(name) !== undefined) ?? false;
}

/** Moves what came in by a step to where it came from. */
function leave(root: Directory, incoming: Directory, area: Directory, step: Move): void {
  const { parent, name } = split(step.path);
  // The old data moves out before the new data moves in. Without the old data in the area, the live name has it: it has
  // not moved yet, or an earlier reversal has moved it back.
  if (!step.in || (step.out && !holds(area, joined(KEPT, parent), name))) return;
  within(root, parent, (live) =>
    within(
      incoming,
      parent,
      (from) => {
        if (!from.look(name) && live.look(name)) live.move(name, from);
      },
      MAKE,
    ),
  );
}

/** Moves what moved out by a step to its old place. */
function comeBack(root: Directory, area: Directory, step: Move): void {
  if (!step.out) return;
  const { parent, name } = split(step.path);
  within(root, parent, (live) =>
    within(area, joined(KEPT, parent), (kept) => {
      if (!kept.look(name)) return;
      // Another program has created this name since: its file is put aside too.
      if (live.look(name)) within(area, joined(LATE, parent), (late) => live.move(name, late), MAKE);
      kept.move(name, live);
    }),
  );
}

/**
 * Moves what cannot stay in the area to directories at the top of the volume, and returns their names: files that other
 * programs created during the exchange, and files whose directory another program has removed. These directories are no
 * areas, so backups include them.
 */
async function releaseRest(root: Directory, area: Directory, id: string): Promise<string[]> {
  const released: string[] = [];
  for (const [inside, what] of [
    [LATE, 'late'],
    [KEPT, 'rest'],
  ] as const) {
    if (!area.look(inside) || !(await holdsFiles(area, inside))) continue;
    let name = `lifeboat-${what}-${id}`;
    while (root.look(name)) name += '-';
    area.move(inside, root, name);
    released.push(name);
  }
  return released;
}

async function unmake(root: Directory, steps: AsyncGenerator<ExchangeStep>): Promise<void> {
  const made: TreePath[] = [];
  for await (const step of steps) if (step.type === 'make') made.push(step.path);
  for (const directory of made.reverse()) {
    const { parent, name } = split(directory);
    within(root, parent, (live) => {
      const inside = live.enter(name);
      const empty = inside?.names().length === 0;
      inside?.close();
      if (empty) removeTree(live, name);
    });
  }
}
