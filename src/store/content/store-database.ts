import type { FileStat } from '../filesystem/file-stat.ts';
import { comparePaths, type TreePath } from '../filesystem/path.ts';
import type { SmallRead } from '../filesystem/read-file.ts';
import { type DatabaseCopy, SqliteCopies } from '../sqlite/sqlite-copies.ts';
import {
  companionsOf,
  isCompanion,
  isInParts,
  isSqlite,
  isSqliteAt,
  SQLITE_PAGE,
  stateOf,
  UNSETTLED,
} from '../sqlite/sqlite-file.ts';
import type { ContentStore, StoredFile } from './content-store.ts';
import type { IssueCause } from './stored-tree.ts';

/** What is to be said of a database: see `StoredTree`. */
type DatabaseIssue = 'torn' | 'damaged' | 'noted';

/** What storing the databases of a tree needs of the tree's storing. */
interface DatabaseStoringOptions {
  /** an existing directory with room for the largest database */
  spool: string;
  contents: ContentStore;
  /** files above this many bytes are not read whole */
  smallFile: number;
  issue(kind: DatabaseIssue, path: TreePath, message: string, cause?: IssueCause): void;
  heard(bytes: number): void;
  signal?: AbortSignal | undefined;
}

const ELSEWHERE =
  'a hard link: a log beside another of its names would be part of it, and is not looked for outside of this volume';

type Copied = Extract<DatabaseCopy, { outcome: 'copied' }>;

/** Stores SQLite databases as consistent copies. Their logs and journals are part of those, so that these are left out. */
export class DatabaseStoring {
  /** databases that were stored as consistent copies, or that nothing was written to */
  count = 0;
  private readonly options: DatabaseStoringOptions;
  private readonly copies: SqliteCopies;
  /** databases whose companions may still come in the walk */
  private covering: { companions: TreePath[]; last: TreePath }[] = [];

  constructor(options: DatabaseStoringOptions) {
    this.options = options;
    this.copies = new SqliteCopies(options.spool, options.heard, options.signal);
  }

  /** True for a file that begins like a database, by what was read of it, or else by a look. */
  isDatabase(absolute: Buffer, read: SmallRead | undefined): boolean {
    if (read?.outcome === 'read') return read.content.length >= SQLITE_PAGE && isSqlite(read.content);
    return (read === undefined || read.outcome === 'large') && isSqliteAt(absolute);
  }

  /**
   * True when a database may have been written to since its index line was made, with the state that this has. Of a file that was
   * stored without one the caller knows that it is unchanged; a log or a journal next to it may still make it a database.
   */
  mayHaveChanged(stat: FileStat, absolute: Buffer, state: string | undefined): boolean {
    const { type, size } = stat;
    if (state === undefined) return type === 'file' && size > 0 && size % SQLITE_PAGE === 0 && isInParts(absolute);
    return type !== 'file' || state === UNSETTLED || stateOf(stat, absolute) !== state;
  }

  /** Stores a database, where a consistent copy cannot be made as `plain` does, and reports that. */
  async store(path: TreePath, absolute: Buffer, plain: () => Promise<StoredFile>): Promise<StoredFile> {
    const copy = await this.copies.copy(absolute);
    if (copy?.outcome === 'copied') return this.storeCopy(path, absolute, copy);
    const stored = await plain();
    if (stored.outcome !== 'stored' || copy?.outcome === 'plain' || (!copy && !isSqliteAt(absolute))) return stored;
    const { issue } = this.options;
    if (!copy) issue('torn', path, 'it was replaced while it was copied, or a part of it could not be read');
    else if (copy.outcome === 'no-room' && copy.quiet && !stored.changed)
      issue('noted', path, 'not checked, since the spool has no room for a copy');
    else if (copy.outcome === 'no-room') issue('torn', path, 'the spool has no room for a copy', 'space');
    else issue(copy.damage ? 'damaged' : 'torn', path, copy.why, copy.cause);
    // Tried again by the next run, even when nothing is written by then.
    return { ...stored, changed: false, content: { ...stored.content, sqlite: UNSETTLED } };
  }

  /** A database that is stored already: its companions are left out as well. */
  cover(path: TreePath): void {
    const companions = companionsOf(path);
    this.covering.push({ companions, last: companions.reduce((a, b) => (comparePaths(a, b) > 0 ? a : b)) });
    this.count++;
  }

  /**
   * True for a companion of a database that is stored, and is what its name says. Paths come in order, so that only a few are kept.
   */
  covers(path: TreePath, absolute: Buffer): boolean {
    if (this.covering.length === 0) return false;
    this.covering = this.covering.filter(({ last }) => comparePaths(path, last) <= 0);
    return this.covering.some(({ companions }) => companions.includes(path)) && isCompanion(absolute);
  }

  /**
   * Looks at a further name of a file that is stored as a database under its first one: a log beside this name is part of it, and SQLite
   * does not find it from the other (https://www.sqlite.org/howtocorrupt.html, section 2.5). `state`: of the first name.
   */
  checkName(path: TreePath, absolute: Buffer, state: string | undefined): void {
    if (state === undefined || !isInParts(absolute)) return;
    this.options.issue(
      'torn',
      path,
      'a hard link: its log is beside this name, and the file is stored under another',
      'name',
    );
  }

  close(): Promise<void> {
    return this.copies.close();
  }

  private async storeCopy(path: TreePath, absolute: Buffer, copy: Copied): Promise<StoredFile> {
    const { contents, smallFile, issue } = this.options;
    const { file, size, stat, state, damage, notes } = copy;
    const stored =
      size > smallFile
        ? await contents.storeLarge(path, file)
        : await contents.store(path, file, await contents.read(file, size));
    if (stored.outcome !== 'stored') return stored;
    this.cover(path);
    if (damage.length > 0) issue('damaged', path, damage.join('; '));
    else if (notes.length > 0) issue('noted', path, notes.join('; '));
    if (stat.nlink > 1 && copy.usesWal && !isInParts(absolute)) issue('noted', path, ELSEWHERE);
    // A damaged one is looked at again, and reported again.
    const sqlite = damage.length > 0 ? UNSETTLED : state;
    return { ...stored, stat, changed: false, content: { ...stored.content, sqlite } };
  }
}
