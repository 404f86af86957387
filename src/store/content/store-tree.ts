import { findFileMounts } from '../filesystem/file-mounts.ts';
import type { StoredTree, StoreTreeOptions } from './stored-tree.ts';
import { TreeStoring } from './tree-storing.ts';

/**
 * Stores a directory: walks it, compares it with the previous index, packs new content, and writes the new index. Files
 * that vanish meanwhile are left out. Files that cannot be read are reported. Memory does not grow with the tree,
 * except for 16 bytes for each distinct content, and for files with several names.
 *
 * @throws TREE_UNREADABLE if the root cannot be read; the errors of the destination; the signal's reason
 */
export async function storeTree(options: StoreTreeOptions): Promise<StoredTree> {
  const fileMounts = await findFileMounts(options.root, options.fileMounts);
  const storing = await TreeStoring.begin({ ...options, fileMounts });
  try {
    await storing.run();
    return await storing.finish();
  } catch (error) {
    await storing.abort(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}
