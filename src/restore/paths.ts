import { LifeboatError } from '../base/errors.ts';
import { distance } from '../plan/values/suggest.ts';
import { selectByGlobs } from '../store/filesystem/glob.ts';
import { displayPath, pathToText, shorten, type TreePath } from '../store/filesystem/path.ts';
import { readIndexFile } from '../store/filesystem/read-index.ts';
import { companionsOf } from '../store/sqlite/sqlite-file.ts';
import type { RestoreContext, RestoreRequest } from './context.ts';

/** The most names that a hint lists, and the most edits for each character of a name. */
const CLOSE = 3;
const UNLIKE = 0.5;
/** Longer names are not compared, because comparing them takes too long. */
const MAX_LENGTH = 80;

/**
 * Checks that every glob selects something in the index.
 *
 * @throws PATH_UNKNOWN with the closest names
 */
export async function checkPaths(globs: readonly string[], indexPath: string): Promise<void> {
  let open = globs.map((glob) => ({ glob, selects: selectByGlobs([glob]), close: new Closest(glob) }));
  if (open.length === 0) return;
  for await (const { path, type } of readIndexFile(indexPath)) {
    if (path === '') continue;
    open = open.filter(({ selects }) => !selects(path, type === 'directory'));
    if (open.length === 0) return;
    for (const { close } of open) close.see(displayPath(path));
  }
  const [missing] = open;
  if (!missing) return;
  const close = missing.close.names();
  throw new LifeboatError('PATH_UNKNOWN', `the snapshot holds nothing that matches ${missing.glob}`, {
    hint:
      close.length > 0
        ? `Similar names: ${close.join(', ')}.`
        : '`lifeboat show SNAPSHOT SOURCE` lists the files, with a glob after it only some of them.',
  });
}

/**
 * Adds to globs the log and journal of each SQLite database that they select. A database that could not be stored as of
 * one moment has them in the snapshot, and lacks its last commits without them.
 */
export async function withCompanions(globs: readonly string[], indexPath: string): Promise<string[]> {
  if (globs.length === 0) return [];
  const selects = selectByGlobs(globs);
  const companions = new Set<TreePath>();
  const added: string[] = [];
  for await (const { path, type, sqlite } of readIndexFile(indexPath)) {
    const selected = selects(path, type === 'directory');
    if (selected && sqlite !== undefined) for (const companion of companionsOf(path)) companions.add(companion);
    // With a slash, the glob matches this path alone.
    if (!selected && companions.delete(path))
      added.push(`./${(pathToText(path) ?? path).replace(/[\\*?[\]{}]/g, '\\$&')}`);
  }
  return [...globs, ...added];
}

/** Collects the paths whose last part is most similar to a glob. */
class Closest {
  private readonly wanted: string;
  private readonly found: { path: string; far: number }[] = [];

  constructor(glob: string) {
    const trimmed = glob.replace(/^(\.?\/)+|\/+$/g, '').toLowerCase();
    this.wanted = trimmed.slice(trimmed.lastIndexOf('/') + 1).replace(/[*?[\]]/g, '');
  }

  see(path: string): void {
    const name = path.slice(path.lastIndexOf('/') + 1).toLowerCase();
    if (this.wanted === '' || name.length > MAX_LENGTH || this.wanted.length > MAX_LENGTH) return;
    if (Math.abs(name.length - this.wanted.length) > this.wanted.length * UNLIKE) return;
    const far = distance(this.wanted, name);
    if (far > this.wanted.length * UNLIKE) return;
    this.found.push({ path, far });
    this.found.sort((a, b) => a.far - b.far);
    this.found.length = Math.min(this.found.length, CLOSE);
  }

  names(): string[] {
    return this.found.map(({ path }) => shorten(path));
  }
}

/** Refuses options that exclude each other or are not for files, before anything is read. @throws USAGE */
export function refuseOptions(request: RestoreRequest, { entry }: RestoreContext): void {
  const { source, paths, overwrite, toDirectory, to } = request;
  const refuse = (message: string, hint: string) => {
    throw new LifeboatError('USAGE', message, { hint });
  };
  const { database, toDatabase, as, tables, globals, skipFailed } = request;
  if (database ?? toDatabase ?? as ?? (tables.length > 0 || globals || skipFailed || undefined)) {
    refuse(
      `${source} is not a database`,
      'Use --path GLOB for files and --to-directory DIR for a directory. Without either, the restore goes to its own volume.',
    );
  }
  if (overwrite && paths.length === 0)
    refuse('--overwrite belongs to --path', 'Without --path, the restore replaces everything.');
  if (toDirectory !== undefined && to !== undefined)
    refuse('--to and --to-directory exclude each other', 'Leave one out.');
  if (entry.kind === 'files' && toDirectory === undefined) {
    refuse(
      `${source} can only be restored to a directory`,
      'Restore it with --to-directory DIR and copy the files from there.',
    );
  }
}
