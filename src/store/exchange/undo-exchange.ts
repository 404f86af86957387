import { LifeboatError } from '../../base/errors.ts';
import { parseAreaName } from '../filesystem/area.ts';
import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { within } from '../filesystem/open-directories.ts';
import { split, type TreePath } from '../filesystem/path.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { joined, KEPT, setDirectoryMeta, setMeta } from './directory-meta.ts';
import { type ExchangeHeader, type ExchangeStep, exchangeState, readMoves } from './move-list.ts';
import { type AreaInodes, enterArea, type FoundArea, findArea, removeArea } from './own-area.ts';

/** The directory, inside the area, for files that other programs created in the place of moved ones. */
const LATE = 'late';

const MAKE = { make: true };

/** Opens the incoming directory, which is inside an area. Returns undefined if Lifeboat did not make that area. */
export function openIncoming(
  root: Directory,
  { incoming }: ExchangeHeader,
  { restoring }: AreaInodes = {},
  options?: { make: boolean },
): Directory | undefined {
  const [name = '', ...rest] = incoming.split('/');
  const isBuilt = parseAreaName(name)?.kind === 'restoring';
  const area = enterArea(root, name, isBuilt ? restoring : undefined);
  try {
    return area && within(area, rest.join('/'), (found) => found.enter('.'), options);
  } finally {
    area?.close();
  }
}

/** What an undo knows about an exchange. */
interface UndoOptions {
  /** absent or partly absent: not known */
  inodes?: AreaInodes | undefined;
  heard?(): void;
}

/**
 * Takes back an unfinished exchange and removes its area, or completes the cleanup of a finished one. Can be called
 * again after an interruption, and for an ID without an exchange. Ignores an area that Lifeboat did not make.
 *
 * @returns whether the volume holds the old or the new data
 * @throws OBJECT_DAMAGED if the area holds data, but its list of moves is gone or damaged
 */
export async function undoExchange(
  root: Directory,
  id: string,
  { inodes = {}, heard = () => undefined }: UndoOptions = {},
): Promise<'old' | 'new'> {
  const found = findArea(root, 'before', id, inodes.before);
  if (!found) return 'old';
  return undoFound(root, found, id, { inodes, heard }).finally(() => found.area.close());
}

/** Like {@link undoExchange}, with its area. */
export async function undoFound(
  root: Directory,
  found: FoundArea,
  id: string,
  { inodes = {}, heard = () => undefined }: UndoOptions,
): Promise<'old' | 'new'> {
  const { area, name } = found;
  const state = exchangeState(area);
  if (state === 'done') {
    await finishExchange(root, found, id, inodes);
    return 'new';
  }
  const before = state === 'under way' ? await takeBack(root, area, id, { inodes, heard }) : undefined;
  if (state === 'none' && area.look(KEPT)) {
    // Moves are listed before they are made. A missing list means that someone removed it, and this area may be the
    // only copy of the data.
    throw new LifeboatError('OBJECT_DAMAGED', `${name} holds data, but its list of moves is gone`);
  }
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
  { inodes, heard }: Required<UndoOptions>,
): Promise<DirectoryMeta | undefined> {
  let before: DirectoryMeta | undefined;
  const { header, steps } = await readMoves(area, id);
  // Another program may have moved the incoming directory away. What came from it is put aside then.
  const incoming = openIncoming(root, header, inodes, MAKE) ?? within(area, LATE, (late) => late.enter('.'), MAKE);
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
  if (!area.look(LATE)) removeArea(root, { area, name }, heard);
  else for (const child of area.names()) if (child !== LATE) removeTree(area, child, heard);
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
  { restoring }: AreaInodes,
): Promise<boolean> {
  let kept = false;
  let after: DirectoryMeta = root.meta();
  const { header, steps } = await readMoves(found.area, id);
  for await (const step of steps()) {
    if (step.type === 'move' && (step.out || !header.whole)) kept = true;
    if (step.type === 'directory' && step.path === '') after = step.after;
  }
  const emptied = parseAreaName(header.incoming.split('/')[0] as string);
  const isBuilt = emptied?.kind === 'restoring';
  const used = emptied && findArea(root, emptied.kind, emptied.id, isBuilt ? restoring : undefined);
  if (used) removeArea(root, used);
  used?.area.close();
  // Nothing was replaced, so there is nothing to roll back to. The area would only clutter the application's directory.
  if (!kept) removeArea(root, found);
  await setMeta(root, after);
  root.sync();
  return kept;
}
