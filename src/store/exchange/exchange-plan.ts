import { LifeboatError } from '../../base/errors.ts';
import { parseAreaName } from '../filesystem/area.ts';
import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { within } from '../filesystem/open-directories.ts';
import { shortPath, split, type TreePath } from '../filesystem/path.ts';
import { companionsOf, isSqliteAt } from '../sqlite/sqlite-file.ts';
import type { ExchangeStep } from './move-list.ts';

/** The directory without which Postgres does not start: it holds `pg_control` (Postgres docs, Database File Layout). */
const CONTROL = 'global';
/** The file that every data directory of Postgres has at its top. */
const VERSION = 'PG_VERSION';

/**
 * Plans to exchange everything at the top: what is there moves out, all of `incoming` moves in, and the root gets the
 * metadata of `incoming`.
 *
 * If that is a data directory of Postgres, a server cannot start on a mixture of both. Docker starts containers again
 * after a loss of power, and does not wait for Lifeboat.
 */
export function* planWhole(root: Directory, incoming: Directory, before: DirectoryMeta): Generator<ExchangeStep> {
  const old = root.names().filter((name) => !parseAreaName(name));
  const fresh = new Set(incoming.names());
  const isPostgres = old.includes(VERSION) || fresh.has(VERSION);
  const around = (path: TreePath) => (isPostgres && path === CONTROL ? { around: true as const } : {});
  for (const path of old) yield { type: 'move', path, out: true, in: fresh.delete(path), ...around(path) };
  for (const path of fresh) yield { type: 'move', path, out: false, in: true, ...around(path) };
  yield { type: 'directory', path: '', before, after: incoming.meta() };
}

/**
 * Plans to exchange only the names that `incoming` holds. Directories that exist on both sides are merged and keep
 * their metadata. Anything else of the same name moves out.
 */
export function* planMerge(root: Directory, incoming: Directory, before: DirectoryMeta): Generator<ExchangeStep> {
  yield* merge(root, incoming, '', before);
}

function* merge(live: Directory, from: Directory, at: TreePath, meta: DirectoryMeta): Generator<ExchangeStep> {
  let moves = false;
  for (const name of from.names()) {
    const path = at === '' ? name : `${at}/${name}`;
    const inside = from.enter(name);
    const existing = inside && live.enter(name);
    try {
      if (inside && existing) yield* merge(existing, inside, path, existing.meta());
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
      existing?.close();
    }
  }
  // The root is always included: making and removing areas changes its time.
  if (moves || at === '') yield { type: 'directory', path: at, before: meta, after: meta };
}

/**
 * Returns the names in `live` of the log and journal of the SQLite database that is replaced. They move out with it,
 * because SQLite would apply them to the new database of that name.
 */
function strandedBy(name: string, from: Directory, live: Directory): string[] {
  if (!isSqliteAt(from.at(name))) return [];
  return companionsOf(name).filter((companion) => live.look(companion) && !from.look(companion));
}

/**
 * Plans the reverse of a merge from its list: what it replaced moves in again, what it brought in moves out. Names that
 * have disappeared from either side since are skipped.
 *
 * @throws TREE_TARGET_REFUSED if a directory on the way has become something else
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
        throw new LifeboatError('TREE_TARGET_REFUSED', `${shortPath(directory)} is no longer a directory`, {
          hint: 'Move it away, then roll back again.',
        });
      } else {
        const meta = known.get(directory) ?? { mode: 0o755, uid: before.uid, gid: before.gid, mtime: before.mtime };
        yield { type: 'make', path: directory, meta };
      }
    }
    yield { type: 'move', ...move };
  }
}

/** Plans to move out the log and journal that an application wrote for a restored database. */
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

/** Returns the directories above a path, from the root down. */
function ancestors(path: TreePath): TreePath[] {
  const parts = path.split('/');
  return parts.map((_, length) => parts.slice(0, length).join('/'));
}
