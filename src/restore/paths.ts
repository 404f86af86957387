import { LifeboatError } from '../base/errors.ts';
import { distance } from '../plan/values/suggest.ts';
import { selectByGlobs } from '../store/filesystem/glob.ts';
import { readIndexFile } from '../store/filesystem/index-file.ts';
import { displayPath, pathToText, shorten, type TreePath } from '../store/filesystem/path.ts';
import { companionsOf } from '../store/sqlite/sqlite-file.ts';
import type { RestoreContext, RestoreRequest } from './context.ts';

/** How many names a hint lists, and how unlike they may be: edits for each character. */
const CLOSE = 3;
const UNLIKE = 0.5;
/** Longer names are no typo of anything; comparing them would only cost time. */
const MAX_LENGTH = 80;

/**
 * Every glob has to select something in the index; what is not there cannot be restored.
 *
 * @throws PATH_UNKNOWN with the names that come closest
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
        ? `Close to it: ${close.join(', ')}.`
        : 'List what it holds with `lifeboat show SNAPSHOT SOURCE`, or only some with a glob after it.',
  });
}

/**
 * The globs, and the log and journal of each SQLite database that they select: a database that could not be stored as of one moment has them
 * in the snapshot, and lacks what was committed last without them.
 */
export async function withCompanions(globs: readonly string[], indexPath: string): Promise<string[]> {
  if (globs.length === 0) return [];
  const selects = selectByGlobs(globs);
  const companions = new Set<TreePath>();
  const added: string[] = [];
  for await (const { path, type, sqlite } of readIndexFile(indexPath)) {
    const selected = selects(path, type === 'directory');
    if (selected && sqlite !== undefined) for (const companion of companionsOf(path)) companions.add(companion);
    // With a slash, so that it is this one and no other of that name.
    if (!selected && companions.delete(path))
      added.push(`./${(pathToText(path) ?? path).replace(/[\\*?[\]{}]/g, '\\$&')}`);
  }
  return [...globs, ...added];
}

/** Remembers the paths whose last part, or whole, is nearest to what was wanted. */
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

/** What does not go together, or is not for files, is refused before anything is looked at. Throws USAGE. */
export function refuseOptions(request: RestoreRequest, { entry }: RestoreContext): void {
  const { source, paths, overwrite, toDirectory, to } = request;
  const refuse = (message: string, hint: string) => {
    throw new LifeboatError('USAGE', message, { hint });
  };
  const { database, toDatabase, as, tables, globals, skipFailed } = request;
  if (database ?? toDatabase ?? as ?? (tables.length > 0 || globals || skipFailed || undefined)) {
    refuse(
      `${source} is not a database`,
      'Use --path GLOB for files, --to-directory DIR, or no target for its own volume.',
    );
  }
  if (overwrite && paths.length === 0)
    refuse('--overwrite belongs to --path', 'Without --path everything is replaced anyway.');
  if (toDirectory !== undefined && to !== undefined)
    refuse('--to and --to-directory exclude each other', 'Leave one out.');
  if (entry.kind === 'files' && toDirectory === undefined) {
    refuse(
      `${source} is mounted read-only into the agent as a rule`,
      'Restore it with --to-directory DIR and copy the files from there.',
    );
  }
}
