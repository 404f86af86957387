import type { FileStat } from '../filesystem/file-stat.ts';
import { comparePaths, type TreePath } from '../filesystem/path.ts';
import type { SmallRead } from '../filesystem/read-file.ts';
import { type DatabaseCopy, SqliteCopies, WITHOUT_ITS_LOG } from '../sqlite/sqlite-copies.ts';
import {
  companionsOf,
  isCompanion,
  isInParts,
  isSqlite,
  isSqliteAt,
  isWithoutItsLogAt,
  SQLITE_PAGE,
  stateOf,
  UNSETTLED,
} from '../sqlite/sqlite-file.ts';
import type { ContentStore, StoredFile } from './content-store.ts';
import type { IssueCause } from './stored-tree.ts';

/** The kinds of issues about databases, see `StoredTree`. */
type DatabaseIssue = 'torn' | 'damaged' | 'noted';

/** The parts of the tree's storing that {@link DatabaseStoring} uses. */
interface DatabaseStoringOptions {
  /** an existing directory with room for the largest database */
  spool: string;
  contents: ContentStore;
  /** larger files are not read whole, bytes */
  smallFile: number;
  /** files that containers mount without their directories */
  fileMounts: ReadonlySet<TreePath>;
  issue(kind: DatabaseIssue, path: TreePath, message: string, cause?: IssueCause): void;
  heard(bytes: number): void;
  signal?: AbortSignal | undefined;
}

const ELSEWHERE =
  'a hard link: a log next to one of its other names would be part of it, but Lifeboat does not look outside this volume';

type Copied = Extract<DatabaseCopy, { outcome: 'copied' }>;

/**
 * Stores SQLite databases as consistent copies. A copy includes the content of the log and journal, so these files are
 * left out.
 */
export class DatabaseStoring {
  /** number of databases that were stored as consistent copies, or have not changed */
  count = 0;
  private readonly options: DatabaseStoringOptions;
  private readonly copies: SqliteCopies;
  /** databases whose companions may still follow in the walk */
  private covering: { companions: TreePath[]; last: TreePath }[] = [];

  constructor(options: DatabaseStoringOptions) {
    this.options = options;
    this.copies = new SqliteCopies(options.spool, options.heard, options.signal);
  }

  /** Returns whether a file starts like a database, from its content if it was read, or else by opening it. */
  isDatabase(absolute: Buffer, read: SmallRead | undefined): boolean {
    if (read?.outcome === 'read') return read.content.length >= SQLITE_PAGE && isSqlite(read.content);
    return (read === undefined || read.outcome === 'large') && isSqliteAt(absolute);
  }

  /**
   * Returns whether a database may have been written to since its index line, with the given state, was made. If its
   * log is out of reach, the file and its state prove nothing. For a file that was stored without a state, the caller
   * knows that it is unchanged, but a log or journal next to it may now make it a database.
   */
  mayHaveChanged(path: TreePath, stat: FileStat, absolute: Buffer, state: string | undefined): boolean {
    const { type, size } = stat;
    if (state === undefined) return type === 'file' && size > 0 && size % SQLITE_PAGE === 0 && isInParts(absolute);
    if (type !== 'file' || state === UNSETTLED || stateOf(stat, absolute) !== state) return true;
    return this.isWithoutItsLog(path, absolute);
  }

  /** Stores a database as a consistent copy. If that is not possible, stores it with `plain` and reports an issue. */
  async store(path: TreePath, absolute: Buffer, plain: () => Promise<StoredFile>): Promise<StoredFile> {
    const copy = await this.copies.copy(absolute, this.options.fileMounts.has(path));
    if (copy?.outcome === 'copied') return this.storeCopy(path, absolute, copy);
    const stored = await plain();
    if (stored.outcome !== 'stored' || copy?.outcome === 'plain' || (!copy && !isSqliteAt(absolute))) return stored;
    const { issue } = this.options;
    if (!copy) issue('torn', path, 'it was replaced while it was copied, or a part of it could not be read');
    else if (copy.outcome === 'no-room' && copy.quiet && !stored.changed)
      issue('noted', path, 'not checked, because the spool has no room for a copy');
    else if (copy.outcome === 'no-room') issue('torn', path, 'the spool has no room for a copy', 'space');
    else issue(copy.damage ? 'damaged' : 'torn', path, copy.why, copy.cause);
    // The next run tries again, even if nothing is written until then.
    return { ...stored, changed: false, content: { ...stored.content, sqlite: UNSETTLED } };
  }

  /** Records a stored database, so that its companions are left out. */
  cover(path: TreePath): void {
    const companions = companionsOf(path);
    this.covering.push({ companions, last: companions.reduce((a, b) => (comparePaths(a, b) > 0 ? a : b)) });
    this.count++;
  }

  /**
   * Returns whether a file is a real companion of a stored database. Paths arrive in order, so only a few databases are
   * remembered.
   */
  covers(path: TreePath, absolute: Buffer): boolean {
    if (this.covering.length === 0) return false;
    this.covering = this.covering.filter(({ last }) => comparePaths(path, last) <= 0);
    return this.covering.some(({ companions }) => companions.includes(path)) && isCompanion(absolute);
  }

  /**
   * Checks another name of a file that is stored as a database under its first name. A log next to this name belongs to
   * the database, but SQLite does not find it from the first name (https://www.sqlite.org/howtocorrupt.html, section
   * 2.5). `state`: of the first name.
   */
  checkName(path: TreePath, absolute: Buffer, state: string | undefined): void {
    if (state === undefined) return;
    if (this.isWithoutItsLog(path, absolute))
      this.options.issue('torn', path, WITHOUT_ITS_LOG.why, WITHOUT_ITS_LOG.cause);
    if (!isInParts(absolute)) return;
    this.options.issue(
      'torn',
      path,
      'a hard link: its log is next to this name, but the file is stored under another one',
      'name',
    );
  }

  close(): Promise<void> {
    return this.copies.close();
  }

  private isWithoutItsLog(path: TreePath, absolute: Buffer): boolean {
    return isWithoutItsLogAt(absolute, this.options.fileMounts.has(path));
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
    // A damaged database is checked again, and reported again, by the next run.
    const sqlite = damage.length > 0 ? UNSETTLED : state;
    return { ...stored, stat, changed: false, content: { ...stored.content, sqlite } };
  }
}
