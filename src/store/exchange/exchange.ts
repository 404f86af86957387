import { LifeboatError } from '../../base/errors.ts';
import { areaName, parseAreaName } from '../filesystem/area.ts';
import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { disturbed, isOfChange } from '../filesystem/disturbed.ts';
import { within } from '../filesystem/open-directories.ts';
import { shortPath, split, type TreePath } from '../filesystem/path.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { joined, KEPT, setDirectoryMeta } from './directory-meta.ts';
import type { KnownArea } from './known-area.ts';
import { unmovable } from './movable.ts';
import { type ExchangeHeader, type ExchangeStep, markDone, readMoves, writeMoves } from './move-list.ts';
import { type AreaRecord, createOwn, enterArea, inodeOf, notOurs, RESERVED } from './own-area.ts';
import { finishExchange, undoFound } from './undo-exchange.ts';
import { type Ended, identifyRoot } from './volume-state.ts';

/**
 * Describes an exchange of content in a volume with a directory inside the same volume, by renames alone. Replaced
 * content moves to the area `.lifeboat-before-<id>/tree`, under the same paths, and is never deleted here. The list of
 * renames is durable before the first one is made. `undoExchange` reverts the renames of an exchange that did not
 * finish.
 */
interface ExchangeRequest extends ExchangeHeader {
  /** the volume */
  root: Directory;
  /** inode of the incoming directory, as a decimal number; absent: not compared */
  expected?: string | undefined;
  /** the areas were made before, see {@link makeAreas}; absent: the exchange makes its own */
  made?: AreaRecord | undefined;
  /** called before the first move, with the area as a later undo or rollback has to find it */
  begun?(known: KnownArea): void;
  /** called after the last move, before the cleanup. Must not throw */
  ended?(state: Ended): void;
  /** called for each step; tests throw in it to interrupt the exchange */
  heard?(): void;
}

const MAKE = { make: true };

/**
 * Runs an exchange.
 *
 * @param plan returns the steps, given the root and the incoming directory; runs before anything is moved
 * @returns `kept`: the area, if it holds replaced content; otherwise it is removed; `swapMs`: how long the moves took,
 *   milliseconds
 * @throws the error of a failed rename, after everything has moved back; TREE_TARGET_REFUSED
 */
export async function exchange(
  request: ExchangeRequest,
  plan: (root: Directory, incoming: Directory) => Iterable<ExchangeStep> | AsyncIterable<ExchangeStep>,
): Promise<{ kept?: KnownArea; swapMs: number }> {
  const { root, begun, ended, heard, expected: _, made, ...about } = request;
  const name = areaName('before', about.id);
  let swapMs = 0;
  const { incoming, source } = openIncoming(request);
  const header = { ...about, source };
  try {
    const area = made ? enterArea(root, name, made.before) : createOwn(root, name);
    if (!area) throw notOurs(name);
    const record: AreaRecord = { ...made, before: inodeOf(area) };
    let known: KnownArea;
    try {
      const list = await writeMoves(area, header, plan(root, incoming));
      removeTree(area, RESERVED);
      const { steps } = await readMoves(area, header.id);
      known = { area: header.id, inode: inodeOf(area), list, root: identifyRoot(root) };
      begun?.(known);
      record.list = list;
      const begin = performance.now();
      for await (const step of steps()) {
        heard?.();
        forward(root, incoming, area, step);
      }
      heard?.();
      swapMs = performance.now() - begin;
      await setDirectoryMeta(root, area, steps(), 'after');
      root.sync();
      heard?.();
      markDone(area);
    } catch (error) {
      await undoFound(root, { area, name }, header.id, { record, ended }).finally(() => area.close());
      throw error;
    }
    heard?.();
    const finished = finishExchange(root, { area, name }, header.id, { record, ended });
    const kept = await finished.finally(() => area.close());
    return { ...(kept ? { kept: known } : {}), swapMs };
  } finally {
    incoming.close();
  }
}

/**
 * Opens the incoming directory, and returns the inode of its area with it.
 *
 * @throws TREE_TARGET_REFUSED if either is not the directory that Lifeboat made
 */
function openIncoming({ root, incoming: path, expected, made }: ExchangeRequest) {
  const [name = '', ...rest] = path.split('/');
  const area = enterArea(root, name, parseAreaName(name)?.kind === 'restoring' ? made?.restoring : undefined);
  const incoming = area && within(area, rest.join('/'), (found) => found.enter('.'));
  const source = area && inodeOf(area);
  area?.close();
  if (incoming && source !== undefined && (expected === undefined || expected === inodeOf(incoming)))
    return { incoming, source };
  incoming?.close();
  throw notOurs(shortPath(path));
}

function forward(root: Directory, incoming: Directory, area: Directory, step: ExchangeStep): void {
  if (step.type === 'make') makeIn(root, step.path, step.meta);
  if (step.type !== 'move') return;
  const { parent } = split(step.path);
  const done = within(root, parent, (live) => {
    const out = !step.out || within(area, joined(KEPT, parent), (kept) => moved(root, step.path, live, kept), MAKE);
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
    const made = createOwn(live, name);
    made.own(meta);
    made.close();
  });
}
