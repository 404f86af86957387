import { LifeboatError } from '../../base/errors.ts';
import { areaName, parseAreaName } from '../filesystem/area.ts';
import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { within } from '../filesystem/open-directories.ts';
import { split, type TreePath } from '../filesystem/path.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { joined, KEPT, setDirectoryMeta, setMeta } from './directory-meta.ts';
import { type KnownArea, reclaim, untrusted } from './known-area.ts';
import { type ExchangeHeader, type ExchangeStep, exchangeState, readMoves, UNDER_WAY } from './move-list.ts';
import { type AreaRecord, type FoundArea, findArea, isOwn, removeArea } from './own-area.ts';
import { BASE } from './root-base.ts';
import { type Ended, stateWithoutArea } from './volume-state.ts';

/** The directory, inside the area, for files that other programs created in the place of moved ones. */
const LATE = 'late';

const MAKE = { make: true };

/** Finds the area with the incoming directory. Returns undefined if Lifeboat did not make it, or if it is gone. */
function findSource(root: Directory, header: ExchangeHeader, { restoring }: AreaRecord): FoundArea | undefined {
  const parsed = parseAreaName(header.incoming.split('/')[0] as string);
  if (!parsed) return undefined;
  const { kind, id } = parsed;
  const found = findArea(root, kind, id, header.source ?? (kind === 'restoring' ? restoring : undefined));
  if (found) return found;
  // A copy of the volume has other inodes. Another directory of root that was given this name is not an area.
  const named = findArea(root, kind, id);
  if (!named || named.area.look(BASE) || exchangeState(named.area) !== 'none') return named;
  named.area.close();
  return undefined;
}

/** Opens the incoming directory for an undo, and makes it if it is missing in its area. */
function openSource(root: Directory, header: ExchangeHeader, record: AreaRecord): Directory | undefined {
  const source = findSource(root, header, record);
  const inside = header.incoming.split('/').slice(1).join('/');
  try {
    return source && within(source.area, inside, (found) => found.enter('.'), MAKE);
  } finally {
    source?.area.close();
  }
}

/** Options for undoing an exchange. */
interface UndoOptions {
  /** absent or partly absent: not known */
  record?: AreaRecord | undefined;
  heard?(): void;
  /** called when all moves are made or reverted, before the cleanup. Must not throw */
  ended?: ((state: Ended) => void) | undefined;
}

/**
 * Takes back an unfinished exchange and removes its area, or completes the cleanup of a finished one. Can be called
 * again after an interruption, and for an ID without an exchange. Ignores an area that Lifeboat did not make, unless
 * the record says that moves have begun: the volume may be a mixture then.
 *
 * @returns whether the volume holds the old or the new data; `unknown` if somebody emptied the area by hand
 * @throws OBJECT_DAMAGED if the area holds data, but its list of moves is gone or damaged; TREE_TARGET_REFUSED if the
 *   area is not as Lifeboat left it; TREE_HALF_RESTORED if moves have begun and the area is gone, or if the volume is
 *   another one than the recorded one. Nothing has changed then.
 */
export async function undoExchange(
  root: Directory,
  id: string,
  { record = {}, heard = () => undefined, ended }: UndoOptions = {},
): Promise<'old' | 'new' | 'unknown'> {
  const { before, list } = record;
  const found = findArea(root, 'before', id, before) ?? (list === undefined ? undefined : findNamed(root, id));
  if (!found) return stateWithoutArea(root, id, record);
  try {
    if (list === undefined && !isOwn(root, found.area.stat())) {
      // Another program has changed the owner. Nothing has moved yet.
      removeArea(root, found, heard);
      return 'old';
    }
    if (list !== undefined)
      await checkRecorded(root, found, { ...(before === undefined ? {} : { inode: before }), list });
    const emptied = list !== undefined && !record.ended && exchangeState(found.area) === 'none';
    const state = await undoFound(root, found, id, { record, heard, ended });
    return emptied ? 'unknown' : (record.ended?.now ?? state);
  } finally {
    found.area.close();
  }
}

/** Checks the area of an exchange that has begun, and locks other programs out of it. */
async function checkRecorded(root: Directory, found: FoundArea, known: Partial<KnownArea>): Promise<void> {
  const { area, name } = found;
  if (exchangeState(area) !== 'none') return reclaim(root, found, known);
  // An interrupted removal: the list is removed last.
  if (area.names().some((child) => child !== LATE)) throw listGone(name);
}

function listGone(name: string): LifeboatError {
  return new LifeboatError('OBJECT_DAMAGED', `${name} holds data, but its list of moves is gone`, {
    hint: `Inspect it as root: its directory \`tree\` holds the data from before. Move what you need back, then move ${name} out of the volume or delete it.`,
  });
}

/**
 * Opens what has the name of an area, although it is not the recorded directory: inodes are not stable on every file
 * system, and a copy of a volume has others. Returns undefined if nothing has that name.
 *
 * @throws TREE_TARGET_REFUSED if it cannot be an area of Lifeboat
 */
function findNamed(root: Directory, id: string): FoundArea | undefined {
  const name = areaName('before', id);
  const area = root.enter(name);
  if (area && isOwn(root, area.stat()) && exchangeState(area) !== 'none') return { area, name };
  area?.close();
  if (root.look(name)) throw untrusted(name, 'it is another directory than the recorded one');
  return undefined;
}

/** Like {@link undoExchange}, with its area. */
export async function undoFound(
  root: Directory,
  found: FoundArea,
  id: string,
  { record = {}, heard = () => undefined, ended }: UndoOptions,
): Promise<'old' | 'new'> {
  const { area, name } = found;
  const state = exchangeState(area);
  if (state === 'done') {
    await finishExchange(root, found, id, { record, ended });
    return 'new';
  }
  const before = state === 'under way' ? await takeBack(root, area, id, { record, heard }) : undefined;
  if (state === 'none' && area.look(KEPT)) {
    // Moves are listed before they are made. A missing list means that someone removed it, and this area may be the
    // only copy of the data.
    throw listGone(name);
  }
  ended?.({ now: 'old' });
  removeEmptied(root, found, heard);
  if (before) await setMeta(root, before);
  root.sync();
  return 'old';
}

/** Moves everything back. Resolves to the metadata that the root had. */
async function takeBack(
  root: Directory,
  area: Directory,
  id: string,
  { record, heard }: { record: AreaRecord; heard(): void },
): Promise<DirectoryMeta | undefined> {
  let before: DirectoryMeta | undefined;
  const { header, steps } = await readMoves(area, id);
  // Another program may have moved the incoming directory away. What came from it is put aside then.
  const incoming = openSource(root, header, record) ?? within(area, LATE, (late) => late.enter('.'), MAKE);
  try {
    for await (const step of steps()) {
      heard();
      backward(root, incoming as Directory, area, step);
      if (step.type === 'directory' && step.path === '') before = step.before;
    }
    await unmake(root, steps());
    await setDirectoryMeta(root, area, steps(), 'before');
  } finally {
    incoming?.close();
  }
  root.sync();
  return before;
}

function backward(root: Directory, incoming: Directory, area: Directory, step: ExchangeStep): void {
  if (step.type !== 'move') return;
  const { parent, name } = split(step.path);
  within(root, parent, (live) => {
    if (step.in) {
      within(
        incoming,
        parent,
        (from) => {
          if (!from.look(name) && live.look(name)) live.move(name, from);
        },
        MAKE,
      );
    }
    if (step.out) {
      within(area, joined(KEPT, parent), (kept) => {
        if (!kept.look(name)) return;
        // Another program has created this name since: its file is put aside too.
        if (live.look(name)) within(area, joined(LATE, parent), (late) => live.move(name, late), MAKE);
        kept.move(name, live);
      });
    }
  });
}

/** Removes an area whose content is back in place. Names that other programs created meanwhile stay in it. */
function removeEmptied(root: Directory, { area, name }: FoundArea, heard: () => void): void {
  // The list is removed last, so that an interrupted removal can be repeated.
  if (!area.look(LATE)) removeArea(root, { area, name }, heard, [UNDER_WAY]);
  else {
    for (const child of area.names()) if (child !== LATE && child !== UNDER_WAY) removeTree(area, child, heard);
    removeTree(area, UNDER_WAY, heard);
  }
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

/**
 * Removes what a finished exchange no longer needs, and restores the root's time. Resolves to whether the area holds
 * replaced content.
 */
export async function finishExchange(
  root: Directory,
  found: FoundArea,
  id: string,
  { record = {}, ended }: UndoOptions,
): Promise<boolean> {
  let kept = false;
  let after: DirectoryMeta = root.meta();
  const { header, steps } = await readMoves(found.area, id);
  for await (const step of steps()) {
    if (step.type === 'move' && (step.out || !header.whole)) kept = true;
    if (step.type === 'directory' && step.path === '') after = step.after;
  }
  ended?.({ now: 'new', kept });
  const used = findSource(root, header, record);
  if (used) removeArea(root, used);
  used?.area.close();
  // Nothing was replaced, so there is nothing to roll back to. The area would only clutter the application's directory.
  if (!kept) removeArea(root, found);
  await setMeta(root, after);
  root.sync();
  return kept;
}
