import { hasErrno, LifeboatError } from '../../base/errors.ts';
import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { disturbed, isOfChange } from '../filesystem/disturbed.ts';
import { within } from '../filesystem/open-directories.ts';
import { shortPath, split, type TreePath } from '../filesystem/path.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import { joined, KEPT, setDirectoryMeta, syncDirectories } from './directory-meta.ts';
import { removeUnused } from './find-area.ts';
import { type EndedExchange, type EndOptions, finishExchange, type OpenExchange } from './finish-exchange.ts';
import { identityOf } from './identity.ts';
import type { KnownArea } from './known-area.ts';
import { unmovable } from './movable.ts';
import {
  type ExchangeHeader,
  type ExchangeStep,
  markDone,
  readMoves,
  type SourceProof,
  writeMoves,
} from './move-list.ts';
import { createOwn, type FoundArea, RESERVED } from './own-area.ts';
import { eachInOrder, type Half } from './step-order.ts';
import { revertExchange } from './undo-exchange.ts';

/**
 * Describes an exchange of content in a volume with a directory inside the same volume, by renames alone. Replaced
 * content moves to the area `.lifeboat-before-<id>/tree`, under the same paths, and is never deleted here. The list of
 * renames is durable before the first one is made. `undoExchange` reverts the renames of an exchange that did not
 * finish. All directories are open: nothing is found by its name again.
 */
interface ExchangeRequest extends Pick<EndOptions, 'ended' | 'heard'> {
  about: Omit<ExchangeHeader, 'source' | 'incoming'>;
  /** the volume */
  root: Directory;
  /** the area for the replaced data */
  area: FoundArea;
  /** the area that holds the incoming directory, and how to recognise it later */
  source: FoundArea;
  proof: SourceProof;
  /** the incoming directory, and its name in its area */
  incoming: Directory;
  inside: string;
  /** called before the first move, with the area as a later undo or rollback has to find it */
  begun?(known: KnownArea): void;
}

/** The result of an exchange. */
export interface Exchanged extends Pick<EndedExchange, 'left'> {
  /** the area that holds the replaced data; absent if nothing was replaced */
  kept?: KnownArea;
  /** how long the volume was between the old and the new state, milliseconds */
  swapMs: number;
}

const MAKE = { make: true };

/**
 * Runs an exchange.
 *
 * @param plan returns the steps; runs before anything is moved
 * @throws the error of a failed rename, after everything has moved back; TREE_TARGET_REFUSED
 */
export async function exchange(
  request: ExchangeRequest,
  plan: () => Iterable<ExchangeStep> | AsyncIterable<ExchangeStep>,
): Promise<Exchanged> {
  const { root, area: found, source, begun, heard, ended } = request;
  let open: OpenExchange | undefined;
  let swapMs = 0;
  try {
    const prepared = await prepareMoves(request, plan);
    begun?.(prepared.known);
    open = prepared;
    const begin = performance.now();
    const { incoming } = request;
    await eachInOrder(open, heard ?? (() => undefined), (step, half) =>
      forward({ root, incoming, area: found.area }, step, half),
    );
    heard?.();
    swapMs = performance.now() - begin;
    await setDirectoryMeta(root, found.area, open.steps(), 'after');
    await syncDirectories(root, found.area, open.steps());
    heard?.();
    markDone(found.area);
  } catch (error) {
    if (open) await revertExchange({ ...open, source }, { ended, heard });
    else removeUnused(root, found);
    throw error;
  }
  heard?.();
  const { kept, left } = await finishExchange(open, { ended, heard });
  return { ...(kept ? { kept: open.known } : {}), left, swapMs };
}

/** Writes the list of moves. */
async function prepareMoves(request: ExchangeRequest, plan: Parameters<typeof exchange>[1]): Promise<OpenExchange> {
  const { root, area: found, source, proof, inside, about } = request;
  const header = {
    ...about,
    incoming: `${source.name}/${inside}`,
    source: { identity: identityOf(source.area), ...proof },
  };
  const written = await writeMoves(found.area, header, plan());
  removeTree(found.area, RESERVED);
  const { steps } = await readMoves(found.area, header.id);
  const known = { area: header.id, identity: identityOf(found.area), root: identityOf(root), ...written };
  return { root, found, known, header, steps, source };
}

interface Directories {
  root: Directory;
  incoming: Directory;
  area: Directory;
}

function forward({ root, incoming, area }: Directories, step: ExchangeStep, half: Half): void {
  if (step.type === 'make') makeIn(root, step.path, step.meta);
  if (step.type !== 'move') return;
  const { parent } = split(step.path);
  const done = within(root, parent, (live) => {
    const out =
      half === 'in' ||
      !step.out ||
      within(area, joined(KEPT, parent), (kept) => moved(root, step.path, live, kept), MAKE);
    return (
      out && (half === 'out' || !step.in || within(incoming, parent, (from) => moved(root, step.path, from, live)))
    );
  });
  if (!done) throw disturbed(`${shortPath(parent)} is not the directory that was checked`);
}

function moved(root: Directory, path: TreePath, from: Directory, to: Directory): true {
  try {
    from.move(split(path).name, to);
    return true;
  } catch (error) {
    const cause = unmovable(error, root, path, 'moved');
    if (cause instanceof LifeboatError || hasErrno(cause, 'ENOSPC', 'EDQUOT')) throw cause;
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
