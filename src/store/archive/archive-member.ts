import type { TreePath } from '../filesystem/path.ts';

/** One entry of an archive, as the archive describes it. Nothing in it is trusted. */
export interface ArchiveMember {
  /** the name in the archive, one character per byte; the original bytes if the entry carries a note with them */
  name: TreePath;
  type: 'file' | 'directory' | 'symlink' | 'hardlink' | 'other';
  /** permission bits; absent if the archive has none */
  mode?: number;
  uid?: number;
  gid?: number;
  /** nanoseconds since 1970 */
  mtime: bigint;
  /** size of a file according to the archive, bytes */
  size: number;
  /** target of a symlink or hard link */
  target?: TreePath;
  /** content of a file; must be read to its end, or not at all, before the next member is requested */
  content(): AsyncIterable<Buffer>;
}
