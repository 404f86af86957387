import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import type { FileMounts, LeftOutData } from '../../plan/values/file-mounts.ts';
import type { DataDirectory } from '../filesystem/data-directory.ts';
import type { FileType } from '../filesystem/file-stat.ts';
import { shorten, shortPath, type TreePath } from '../filesystem/path.ts';
import type { PackRef } from '../packs/pack-stream.ts';

/** Where to find contents that any kept snapshot holds. */
export interface KnownContentsRef {
  /** the directory of a {@link ContentTable} */
  table: string;
  /** the repository and project that the table must be about */
  of: string;
  /** the file of the packs that may be used, see {@link KnownPacks} */
  packs: string;
  /** packs that must not be used, because the run stores their remaining content again */
  without: readonly string[];
  /** true if the table has all contents of the last snapshot */
  coversPrevious: boolean;
}

/** Describes the tree to store, and where to. */
export interface StoreTreeOptions {
  /** absolute path of the tree's root directory */
  root: string;
  /** globs for paths in the tree; see `compileGlobs` */
  include?: readonly string[];
  exclude?: readonly string[];
  leaveOut?: LeftOutData | undefined;
  /** what containers mount from inside the tree, to find databases without their logs */
  fileMounts?: FileMounts | undefined;
  project: string;
  source: string;
  destination: Destination;
  keys: SealKeys;
  /** the index of the last snapshot as a plain local file, and its packs */
  previous?: { indexPath: string; packs: readonly PackRef[]; listed?: boolean };
  /** contents that other snapshots hold; absent: only those of the last snapshot are known */
  known?: KnownContentsRef;
  /** path for the new index, a plain local file that appears only once everything is stored */
  indexPath: string;
  /** files up to this size are stored whole, larger ones in parts; only tests set another value */
  smallFile?: number;
  /** a directory with room for a copy of the largest SQLite database; absent: databases are stored like other files */
  spool?: string;
  /**
   * the tree was made for this run, so the times and inodes of its files say nothing: the index has a constant time
   * instead, and equal trees give equal indexes
   */
  isMade?: boolean;
  /** called and awaited before an object is put: cleanup after a crash needs to know the object */
  recordObject(key: string): Promise<void>;
  signal?: AbortSignal;
  /** called a few times a second at most, and at the end; `done` in bytes */
  progress?(progress: { done: number; files: number }): void;
}

/** Like {@link StoreTreeOptions}. `fileMounts`: the files of the tree that containers mount by themselves. */
export type StoringOptions = Omit<StoreTreeOptions, 'fileMounts'> & { fileMounts: ReadonlySet<TreePath> };

/** Something in the tree that needs attention. `path` is for display. */
export interface TreeIssue {
  path: string;
  message: string;
  /**
   * the reason, if it is not a writing application: no `space` in the spool, another `name` of the file, a `mount`
   * without the log, or the `length` of the path
   */
  cause?: IssueCause;
}

export type IssueCause = 'space' | 'name' | 'mount' | 'length';

/** The stored tree. `files` includes hard links; `bytes` counts the content of a file once for each of its names. */
export interface StoredTree {
  /** number of lines in the index */
  entries: number;
  files: number;
  bytes: number;
  /** files with content that the repository did not hold before */
  newFiles: number;
  /** bytes added to the repository, in their stored form */
  newBytes: number;
  /** files that were not read, because nothing about them had changed */
  unchangedFiles: number;
  /** all packs that the new index uses */
  packs: PackRef[];
  /** FIFOs, sockets and devices, which are in the index without content */
  skipped: Partial<Record<FileType, number>>;
  /** the first files and directories that could not be read and are missing from the index */
  unreadable: TreeIssue[];
  unreadableCount: number;
  /** the first files that changed each time they were read */
  changed: TreeIssue[];
  changedCount: number;
  /** SQLite databases that are stored whole, each as of one moment */
  databases: number;
  /** databases without a consistent copy */
  torn: TreeIssue[];
  tornCount: number;
  /** databases that SQLite reports as damaged */
  damaged: TreeIssue[];
  damagedCount: number;
  /** notes about databases that are stored whole */
  noted: TreeIssue[];
  notedCount: number;
  /** data directories of database servers, including those that are left out */
  dataDirectories: DataDirectory[];
  /** of a volume: names at its top that restores use for old data, see `parseAreaName` */
  areas?: string[];
  warnings: string[];
}

/** Returns the result for a tree without any stored entry. */
export function emptyResult(): StoredTree {
  return {
    entries: 0,
    files: 0,
    bytes: 0,
    newFiles: 0,
    newBytes: 0,
    unchangedFiles: 0,
    packs: [],
    skipped: {},
    unreadable: [],
    unreadableCount: 0,
    changed: [],
    changedCount: 0,
    databases: 0,
    torn: [],
    tornCount: 0,
    damaged: [],
    damagedCount: 0,
    noted: [],
    notedCount: 0,
    dataDirectories: [],
    warnings: [],
  };
}

const MAX_ISSUES = 100;

/** Counts an issue, and records the first {@link MAX_ISSUES} of each kind, with shortened text. */
export function addIssue(
  result: StoredTree,
  kind: 'unreadable' | 'changed' | 'torn' | 'damaged' | 'noted',
  { path, message, cause }: { path: TreePath; message: string; cause?: IssueCause | undefined },
): void {
  result[`${kind}Count`]++;
  if (result[kind].length >= MAX_ISSUES) return;
  result[kind].push({ path: shortPath(path), message: shorten(message), ...(cause && { cause }) });
}
