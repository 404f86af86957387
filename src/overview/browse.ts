import type { IndexEntry } from '../store/filesystem/index-file.ts';
import { isWithin, type TreePath } from '../store/filesystem/path.ts';

/** One name in a directory of a snapshot. */
interface Child {
  name: TreePath;
  type: IndexEntry['type'];
  /** of a directory: all files below it. Bytes */
  bytes: number;
  /** of a directory: number of files below it */
  files: number;
  /** nanoseconds since 1970 */
  mtime: bigint;
}

/** A part of the content of a directory. */
export interface DirectoryPage {
  /** in the order of their names */
  children: Child[];
  /** number of names in the directory, on all pages */
  total: number;
  /** the directory is in the index */
  found: boolean;
}

/**
 * Reads one directory from an index. Holds only the page in memory, however large the tree is.
 *
 * @param entries the whole index, in its order
 * @param directory path of the directory; the root is empty
 * @param page `after`: names to skip; `most`: names to return; `signal`: ends the reading
 * @throws the signal's reason
 */
export async function readDirectory(
  entries: AsyncIterable<IndexEntry>,
  directory: TreePath,
  { after, most, signal }: { after: number; most: number; signal?: AbortSignal },
): Promise<DirectoryPage> {
  const children: Child[] = [];
  const prefix = directory === '' ? '' : `${directory}/`;
  let total = 0;
  let found = false;
  let current: Child | undefined;
  for await (const { path, type, size = 0, mtime } of entries) {
    signal?.throwIfAborted();
    if (path === directory) found = type === 'directory';
    if (path === '' || path === directory) continue;
    if (!isWithin(path, directory)) {
      // The tree is in depth-first order, so nothing of the directory follows.
      if (found) break;
      continue;
    }
    const rest = path.slice(prefix.length);
    const isFile = type === 'file' || type === 'hardlink';
    if (rest.includes('/')) {
      if (current && isFile) {
        current.bytes += type === 'file' ? size : 0;
        current.files += 1;
      }
      continue;
    }
    total += 1;
    current = { name: rest, type, bytes: type === 'file' ? size : 0, files: 0, mtime };
    if (total > after && children.length < most) children.push(current);
  }
  return { children, total, found };
}
