import { LifeboatError } from '../../base/errors.ts';
import { areaName } from '../filesystem/area.ts';
import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { disturbed, isOfChange } from '../filesystem/disturbed.ts';
import { within } from '../filesystem/open-directories.ts';
import { shortPath, split, type TreePath } from '../filesystem/path.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { joined, KEPT, setDirectoryMeta, setMeta } from './directory-meta.ts';
import { unmovable } from './movable.ts';
import { type ExchangeHeader, type ExchangeStep, exchangeState, markDone, readMoves, writeMoves } from './move-list.ts';

/**
 * Describes an exchange of content in a volume with a directory inside the same volume, by renames alone. Replaced
 * content moves to the area `.lifeboat-before-<id>/tree`, under the same paths, and is never deleted here. The list of
 * renames is durable before the first one is made. {@link undoExchange} reverts the renames of an exchange that did not
 * finish.
 */
interface ExchangeRequest extends ExchangeHeader {
  /** the volume */
  root: Directory;
  /** inode of the incoming directory, as a decimal number; absent: not compared */
  expected?: string | undefined;
  /** called before the first move */
  begun?(): void;
  /** called for each step; tests throw in it to interrupt the exchange */
  heard?(): void;
}

/** The directory, inside the area, for names that were in the way when an exchange was taken back. */
const LATE = 'late';

const MAKE = { make: true };

/**
 * Runs an exchange.
 *
 * @param plan returns the steps, given the root and the incoming directory; runs before anything is moved
 * @returns `kept`: whether the area holds replaced content, otherwise it is removed; `swapMs`: how long the moves took,
 *   milliseconds
 * @throws the error of a failed rename, after everything has moved back; OBJECT_MISSING, TREE_TARGET_REFUSED
 */
export async function exchange(
  request: ExchangeRequest,
  plan: (root: Directory, incoming: Directory) => Iterable<ExchangeStep> | AsyncIterable<ExchangeStep>,
): Promise<{ kept: boolean; swapMs: number }> {
  const { root, begun, heard, expected: _, ...header } = request;
  const name = areaName('before', header.id);
  let begin = 0;
  let swapMs = 0;
  const incoming = openIncoming(root, header);
  if (!incoming) throw new LifeboatError('OBJECT_MISSING', `${shortPath(header.incoming)} is gone`);
  try {
    if (request.expected !== undefined && request.expected !== String(incoming.stat().ino))
      throw disturbed(`${shortPath(header.incoming)} is not the directory that Lifeboat made`);
    const area = root.make(name);
    try {
      await writeMoves(area, header, plan(root, incoming));
      const { steps } = await readMoves(area);
      begun?.();
      begin = performance.now();
      for await (const step of steps()) {
        heard?.();
        forward(root, incoming, name, step);
      }
      heard?.();
      swapMs = performance.now() - begin;
      await setDirectoryMeta(root, name, steps(), 'after');
      root.sync();
      heard?.();
      markDone(area);
    } catch (error) {
      await undoExchange(root, header.id);
      throw error;
    } finally {
      area.close();
    }
  } finally {
    incoming.close();
  }
  heard?.();
  return { kept: await finishExchange(root, header.id), swapMs };
}

function openIncoming(root: Directory, { incoming }: ExchangeHeader, options?: { make: boolean }) {
  return within(root, incoming, (found) => found.enter('.'), options);
}

function forward(root: Directory, incoming: Directory, area: string, step: ExchangeStep): void {
  if (step.type === 'make') makeIn(root, step.path, step.meta);
  if (step.type !== 'move') return;
  const { parent } = split(step.path);
  const done = within(root, parent, (live) => {
    const out =
      !step.out || within(root, joined(area, KEPT, parent), (kept) => moved(root, step.path, live, kept), MAKE);
    return out && (!step.in || within(incoming, parent, (from) => moved(root, step.path, from, live)));
  });
  if (!done) throw disturbed(`${shortPath(parent)} is not the directory that was checked`);
}

function moved(root: Directory, path: TreePath, from: Directory, to: Directory): true {
  try {
    from.move(split(path).name, to);
    return true;
  } catch (error) {
    const cause = unmovable(error, root, path, 'moved');
    if (cause instanceof LifeboatError) throw cause;
    if (isOfChange(cause)) throw disturbed(`${shortPath(path)} has changed since it was checked`, cause);
    throw new LifeboatError('INTERNAL', `${shortPath(path)} could not be moved`, { cause });
  }
}

function makeIn(root: Directory, directory: TreePath, meta: DirectoryMeta): void {
  const { parent, name } = split(directory);
  within(root, parent, (live) => {
    const made = live.make(name);
    made.own(meta);
    made.close();
  });
}

/**
 * Takes back an unfinished exchange and removes its area, or completes the cleanup of a finished one. Can be called
 * again after an interruption, and for an ID without an exchange.
 *
 * @returns whether the volume holds the old or the new data
 * @throws OBJECT_DAMAGED if the area holds data, but its list of moves is gone or damaged
 */
export async function undoExchange(
  root: Directory,
  id: string,
  heard: () => void = () => undefined,
): Promise<'old' | 'new'> {
  const name = areaName('before', id);
  const area = root.enter(name);
  if (!area) return 'old';
  let before: DirectoryMeta | undefined;
  try {
    const state = exchangeState(area);
    if (state === 'done') {
      await finishExchange(root, id);
      return 'new';
    }
    if (state === 'under way') {
      const { header, steps } = await readMoves(area);
      const incoming = openIncoming(root, header, MAKE) as Directory;
      try {
        for await (const step of steps()) {
          heard();
          backward(root, incoming, name, step);
          if (step.type === 'directory' && step.path === '') before = step.before;
        }
        await unmake(root, steps());
        await setDirectoryMeta(root, name, steps(), 'before');
      } finally {
        incoming.close();
      }
      root.sync();
    } else if (area.look(KEPT)) {
      // Moves are listed before they are made. A missing list means that someone removed it, and this area may be the
      // only copy of the data.
      throw new LifeboatError('OBJECT_DAMAGED', `${name} holds data, but its list of moves is gone`);
    }
  } finally {
    area.close();
  }
  removeEmptied(root, name, heard);
  if (before) await setMeta(root, before);
  root.sync();
  return 'old';
}

function backward(root: Directory, incoming: Directory, area: string, step: ExchangeStep): void {
  if (step.type !== 'move') return;
  const { parent, name } = split(step.path);
  within(root, parent, (live) => {
    if (step.in) {
      within(incoming, parent, (from) => {
        if (!from.look(name) && live.look(name)) live.move(name, from);
      });
    }
    if (step.out) {
      within(root, joined(area, KEPT, parent), (kept) => {
        if (!kept.look(name)) return;
        // Another program has created this name since: its file is put aside too.
        if (live.look(name)) within(root, joined(area, LATE, parent), (late) => live.move(name, late), MAKE);
        kept.move(name, live);
      });
    }
  });
}

/** Removes an area whose content is back in place. Names that other programs created meanwhile stay in it. */
function removeEmptied(root: Directory, name: string, heard: () => void): void {
  const area = root.enter(name);
  if (!area) return;
  const late = area.look(LATE) !== undefined;
  for (const child of area.names()) if (child !== LATE) removeTree(area, child, heard);
  area.close();
  if (!late) removeTree(root, name);
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
async function finishExchange(root: Directory, id: string): Promise<boolean> {
  const name = areaName('before', id);
  const area = root.enter(name);
  if (!area) throw new LifeboatError('OBJECT_MISSING', `the data that restore ${id} replaced is gone`);
  let kept = false;
  let after: DirectoryMeta = root.meta();
  try {
    const { header, steps } = await readMoves(area);
    for await (const step of steps()) {
      if (step.type === 'move' && (step.out || !header.whole)) kept = true;
      if (step.type === 'directory' && step.path === '') after = step.after;
    }
    removeTree(root, header.incoming.split('/')[0] as string);
  } finally {
    area.close();
  }
  // Nothing was replaced, so there is nothing to roll back to. The area would only clutter the application's directory.
  if (!kept) removeTree(root, name);
  await setMeta(root, after);
  root.sync();
  return kept;
}
