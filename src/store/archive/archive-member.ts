import type { TreePath } from '../filesystem/path.ts';

/** One name of an archive, as the archive has it: nothing of it is trusted. */
export interface ArchiveMember {
  /** as it stands there, one character a byte; with its bytes where a note says that the name stands for others */
  name: TreePath;
  type: 'file' | 'directory' | 'symlink' | 'hardlink' | 'other';
  /** permission bits; absent where the archive has none */
  mode?: number;
  uid?: number;
  gid?: number;
  /** nanoseconds since 1970 */
  mtime: bigint;
  /** of a file, bytes that it says to have */
  size: number;
  /** of a symlink and a hard link */
  target?: TreePath;
  /** of a file; to be read to its end, or left, before the next member is asked for */
  content(): AsyncIterable<Buffer>;
}
