import type { Destination } from '../../destinations/destination.ts';
import type { LeftOutData } from '../../plan/model.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import type { StoredTree } from './stored-tree.ts';
import { TreeStoring } from './tree-storing.ts';

/** Describes the tree to store, and where to. */
export interface StoreTreeOptions {
  /** absolute path of the tree's root directory */
  root: string;
  /** globs for paths in the tree; see `compileGlobs` */
  include?: readonly string[];
  exclude?: readonly string[];
  leaveOut?: LeftOutData | undefined;
  project: string;
  source: string;
  destination: Destination;
  keys: SealKeys;
  /** the index of the last snapshot as a plain local file, and its packs */
  previous?: { indexPath: string; packs: readonly PackRef[] };
  /** path for the new index, a plain local file that appears only once everything is stored */
  indexPath: string;
  /** files up to this size share packs, a larger file gets a pack of its own; only tests set another value */
  smallFile?: number;
  /** a directory with room for a copy of the largest SQLite database; absent: databases are stored like other files */
  spool?: string;
  /** called and awaited before an object is put: cleanup after a crash needs to know the object */
  recordObject(key: string): Promise<void>;
  signal?: AbortSignal;
  /** called a few times a second at most, and at the end; `done` in bytes */
  progress?(progress: { done: number; files: number }): void;
}

/**
 * Stores a directory: walks it, compares it with the previous index, packs new content, and writes the new index. Files
 * that vanish meanwhile are left out. Files that cannot be read are reported. Memory does not grow with the tree,
 * except for 16 bytes for each distinct content, and for files with several names.
 *
 * @throws TREE_UNREADABLE if the root cannot be read; the errors of the destination; the signal's reason
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
