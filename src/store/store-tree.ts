import type { Destination } from '../destinations/destination.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import type { PackRef } from './pack-stream.ts';
import { TreeStoring } from './tree-storing.ts';
import type { FileType } from './walk.ts';

/** What to store, and where. */
export interface StoreTreeOptions {
  /** absolute path of the tree's root directory */
  root: string;
  /** globs over paths in the tree; see `compileGlobs` */
  include?: readonly string[];
  exclude?: readonly string[];
  project: string;
  source: string;
  destination: Destination;
  keys: SealKeys;
  /** the last snapshot's index as a plain local file, and the packs it uses */
  previous?: { indexPath: string; packs: readonly PackRef[] };
  /** where the new index is written, as a plain local file that only appears when everything is stored */
  indexPath: string;
  /** files up to that many bytes share packs, a larger one is a pack of its own; only tests need another value */
  smallFile?: number;
  /** called, and waited for, before an object is put: what a run that dies has to have cleaned up */
  recordObject(key: string): Promise<void>;
  signal?: AbortSignal;
  /** called at most a few times a second, and at the end. `done` in bytes. */
  progress?(progress: { done: number; files: number }): void;
}

/** Something in the tree that needs attention. `path` is for people. */
export interface TreeIssue {
  path: string;
  message: string;
}

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
  warnings: string[];
}

/**
 * Stores a directory: walks it, compares with the previous index, packs what is new, and writes the new index. Files that
 * vanish meanwhile are left out; files that cannot be read are reported. Memory does not grow with the tree, but for
 * 16 bytes a distinct content and for files with several names.
 *
 * @throws TREE_UNREADABLE when the root cannot be read; what the destination throws; the signal's reason
 */
export async function storeTree(options: StoreTreeOptions): Promise<StoredTree> {
  const storing = await TreeStoring.begin(options);
  try {
    await storing.run();
    return await storing.finish();
  } catch (error) {
    await storing.abort(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}
