import type { DataDirectory } from '../filesystem/data-directory.ts';
import type { FileType } from '../filesystem/file-stat.ts';
import { shorten, shortPath, type TreePath } from '../filesystem/path.ts';
import type { PackRef } from '../packs/pack-stream.ts';

/** Something in the tree that needs attention. `path` is for people. */
export interface TreeIssue {
  path: string;
  message: string;
  /** why, where something else than writers is to blame: `space` in the spool, another `name` of the file, a `mount` without its log */
  cause?: IssueCause;
}

export type IssueCause = 'space' | 'name' | 'mount';

/** What was stored. Counts of files include hard links; bytes count every content once for each file that has it. */
export interface StoredTree {
  /** lines in the index */
  entries: number;
  files: number;
  bytes: number;
  /** files whose content was not in the repository before */
  newFiles: number;
  /** bytes added to the repository, as stored */
  newBytes: number;
  /** files that were not read, since nothing about them changed */
  unchangedFiles: number;
  /** every pack the new index uses */
  packs: PackRef[];
  /** FIFOs, sockets and devices: in the index, without content */
  skipped: Partial<Record<FileType, number>>;
  /** the first of what could not be read, and so is not in the index */
  unreadable: TreeIssue[];
  unreadableCount: number;
  /** the first of the files that changed each time they were read */
  changed: TreeIssue[];
  changedCount: number;
  /** SQLite databases that are whole, each of one moment */
  databases: number;
  /** databases of which no consistent copy could be made */
  torn: TreeIssue[];
  tornCount: number;
  /** databases that SQLite finds damaged */
  damaged: TreeIssue[];
  damagedCount: number;
  /** what is to be said of databases that are stored whole */
  noted: TreeIssue[];
  notedCount: number;
  /** directories that hold the data of a database server; also those that are left out */
  dataDirectories: DataDirectory[];
  warnings: string[];
}

/** Of a tree of which nothing is stored so far. */
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

/** Counts an issue, and keeps the first of each kind, in short lines. */
export function addIssue(
  result: StoredTree,
  kind: 'unreadable' | 'changed' | 'torn' | 'damaged' | 'noted',
  { path, message, cause }: { path: TreePath; message: string; cause?: IssueCause | undefined },
): void {
  result[`${kind}Count`]++;
  if (result[kind].length >= MAX_ISSUES) return;
  result[kind].push({ path: shortPath(path), message: shorten(message), ...(cause && { cause }) });
}
