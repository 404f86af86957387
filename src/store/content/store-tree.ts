import type { Destination } from '../../destinations/destination.ts';
import type { LeftOutData } from '../../plan/model.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import type { StoredTree } from './stored-tree.ts';
import { TreeStoring } from './tree-storing.ts';

/** What to store, and where. */
export interface StoreTreeOptions {
  /** absolute path of the tree's root directory */
  root: string;
  /** globs over paths in the tree; see `compileGlobs` */
  include?: readonly string[];
  exclude?: readonly string[];
  leaveOut?: LeftOutData | undefined;
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
  /** a directory with room for one copy of the largest SQLite database; absent: databases are files like any other */
  spool?: string;
  /** called, and waited for, before an object is put: what a run that dies has to have cleaned up */
  recordObject(key: string): Promise<void>;
  signal?: AbortSignal;
  /** called at most a few times a second, and at the end. `done` in bytes. */
  progress?(progress: { done: number; files: number }): void;
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
