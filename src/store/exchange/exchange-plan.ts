import { LifeboatError } from '../../base/errors.ts';
import { parseAreaName } from '../filesystem/area.ts';
import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { within } from '../filesystem/open-directories.ts';
import { shortPath, split, type TreePath } from '../filesystem/path.ts';
import { companionsOf, isSqliteAt } from '../sqlite/sqlite-file.ts';
import type { ExchangeStep } from './move-list.ts';

/** Everything at the top: all that is there goes out, all of `incoming` comes in, and the root becomes what it was there. */
export function* planWhole(root: Directory, incoming: Directory, before: DirectoryMeta): Generator<ExchangeStep> {
  const old = root.names().filter((name) => !parseAreaName(name));
  const fresh = new Set(incoming.names());
  for (const path of old) yield { type: 'move', path, out: true, in: fresh.delete(path) };
  for (const path of fresh) yield { type: 'move', path, out: false, in: true };
  yield { type: 'directory', path: '', before, after: incoming.meta() };
}

/**
 * Only what comes in: directories that are on both sides are merged and stay what they are, everything else of that name
 * goes out.
 */
export function* planMerge(root: Directory, incoming: Directory, before: DirectoryMeta): Generator<ExchangeStep> {
  yield* merge(root, incoming, '', before);
}

function* merge(live: Directory, from: Directory, at: TreePath, meta: DirectoryMeta): Generator<ExchangeStep> {
  let moves = false;
  for (const name of from.names()) {
    const path = at === '' ? name : `${at}/${name}`;
    const inside = from.enter(name);
    const beside = inside && live.enter(name);
    try {
      if (inside && beside) yield* merge(beside, inside, path, beside.meta());
      else {
        moves = true;
        const stranded = strandedBy(name, from, live);
        yield { type: 'move', path, out: live.look(name) !== undefined, in: true };
        for (const companion of stranded) {
          yield { type: 'move', path: path.slice(0, -name.length) + companion, out: true, in: false };
        }
      }
    } finally {
      inside?.close();
      beside?.close();
    }
  }
  // The root always: areas come and go in it.
  if (moves || at === '') yield { type: 'directory', path: at, before: meta, after: meta };
}

/**
 * The log and journal that an SQLite database left next to its name, which another database of that name must not meet: SQLite
 * would take them for its own. Names in `live`.
 */
function strandedBy(name: string, from: Directory, live: Directory): string[] {
  if (!isSqliteAt(from.at(name))) return [];
  return companionsOf(name).filter((companion) => live.look(companion) && !from.look(companion));
}

/**
 * The reverse of a merge, as its list tells: what it replaced comes in again, what it brought goes out. What is gone from
 * either side meanwhile is passed over.
 *
 * @throws TREE_TARGET_REFUSED when a directory on the way is something else now
 */
export async function* planBack(
  root: Directory,
  incoming: Directory,
  steps: AsyncIterable<ExchangeStep>,
  before: DirectoryMeta,
): AsyncGenerator<ExchangeStep> {
  const has = (top: Directory, path: TreePath) => {
    const { parent, name } = split(path);
    return within(top, parent, (directory) => directory.look(name) !== undefined) ?? false;
  };
  const moves: { path: TreePath; out: boolean; in: boolean }[] = [];
  const known = new Map<TreePath, DirectoryMeta>();
  for await (const step of steps) {
    if (step.type === 'directory') known.set(step.path, step.before);
    else if (step.type === 'make') known.set(step.path, step.meta);
    else {
      const comes = step.out && has(incoming, step.path);
      const goes = has(root, step.path) && (step.in || comes);
      if (comes || goes) moves.push({ path: step.path, out: goes, in: comes });
    }
  }
  moves.push(...strandedMoves(moves, root, incoming));
  yield { type: 'directory', path: '', before, after: before };
  const seen = new Set<TreePath>(['']);
  for (const move of moves) {
    for (const directory of ancestors(move.path)) {
      if (seen.has(directory)) continue;
      seen.add(directory);
      const found = within(root, directory, (live) => live.meta());
      if (found) yield { type: 'directory', path: directory, before: found, after: found };
      else if (has(root, directory)) {
        throw new LifeboatError('TREE_TARGET_REFUSED', `${shortPath(directory)} is not a directory any more`, {
          hint: 'Move it away, and roll back then.',
        });
      } else {
        const meta = known.get(directory) ?? { mode: 0o755, uid: before.uid, gid: before.gid, mtime: before.mtime };
        yield { type: 'make', path: directory, meta };
      }
    }
    yield { type: 'move', ...move };
  }
}

/** What an application wrote next to a restored database goes out with it. */
function strandedMoves(moves: readonly { path: TreePath; in: boolean }[], root: Directory, incoming: Directory) {
  const moved = new Set(moves.map(({ path }) => path));
  return moves.flatMap((move) => {
    const { parent, name } = split(move.path);
    const side = move.in ? incoming : root;
    const isDatabase = within(side, parent, (directory) => isSqliteAt(directory.at(name))) ?? false;
    const left = isDatabase ? companionsOf(move.path).filter((path) => !moved.has(path)) : [];
    const there = left.filter((path) => within(root, parent, (live) => live.look(split(path).name)) !== undefined);
    return there.map((path) => ({ path, out: true, in: false }));
  });
}

/** The directories above a path, from the root down. */
function ancestors(path: TreePath): TreePath[] {
  const parts = path.split('/');
  return parts.map((_, length) => parts.slice(0, length).join('/'));
}
