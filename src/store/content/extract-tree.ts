import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { Directory } from '../filesystem/directory.ts';
import type { FileType } from '../filesystem/file-stat.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { createTimeSetter } from '../filesystem/times.ts';
import type { NewName } from '../filesystem/write-file.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import { TaskLists } from './task-lists.ts';
import { Extraction } from './tree-extraction.ts';

/** What to bring back, and where to. */
export interface ExtractTreeOptions {
  /** as `readIndex` gives it: checked, in order */
  index: AsyncIterable<IndexEntry>;
  packs: readonly PackRef[];
  destination: Destination;
  keys: SealKeys;
  /** a directory that is empty: open, or the absolute path of one, which need not exist */
  target: Directory | string;
  /** which paths; their directories come along. Absent: everything. See `selectByGlobs`. */
  select?: PathPredicate;
  /** an existing directory for at most one compressed pack of small files, unpacked, and for lists of files */
  spool: string;
  /** resolve only when everything is on the disk, not just handed to the operating system */
  durable?: boolean;
  /** as it was when the tree was stored; only tests need another value */
  smallFile?: number;
  /** restore user and group (needs root), and with them setuid and setgid bits */
  owner: boolean;
  /**
   * Tries to make a file that is not empty from something at hand, whole and with its owner and mode: true when it did,
   * having compared its hash; false when nothing of that name is left, so that it is fetched.
   */
  takeOver?(entry: IndexEntry, to: NewName): Promise<boolean>;
  signal?: AbortSignal;
  /** called at most a few times a second, and at the end. `done` in bytes. */
  progress?(progress: { done: number; files: number }): void;
}

/** What was brought back. Files include hard links; bytes do not count them again. */
export interface ExtractedTree {
  entries: number;
  files: number;
  bytes: number;
  /** FIFOs, sockets and devices in the index: not made */
  skipped: Partial<Record<FileType, number>>;
}

/**
 * Restores a tree into an empty directory: content checked against the index, owners, modes, times to the nanosecond,
 * hard links, holes. Each pack is read once. Nothing outside `target` can be reached, not even when others write there
 * meanwhile: everything is made through open directories, and no symlink is followed. At the end every name is where it
 * was made.
 *
 * @throws TREE_TARGET_NOT_EMPTY before anything is written; TREE_TARGET_FULL, TREE_TARGET_REFUSED, OBJECT_MISSING, OBJECT_DAMAGED, KEY_MISSING, KEY_WRONG, SPOOL_FULL; the signal's reason
 */
export async function extractTree(options: ExtractTreeOptions): Promise<ExtractedTree> {
  const { target } = options;
  if (typeof target !== 'string') return extractInto(target, options);
  await mkdir(target, { recursive: true, mode: 0o700 });
  const directory = Directory.open(target);
  try {
    return await extractInto(directory, options);
  } finally {
    directory.close();
  }
}

async function extractInto(target: Directory, options: ExtractTreeOptions): Promise<ExtractedTree> {
  if (target.names().length > 0) {
    throw new LifeboatError('TREE_TARGET_NOT_EMPTY', `the directory ${target.place} is not empty`, {
      hint: 'Restore into a new directory, and move its content once it is checked.',
    });
  }
  const times = await createTimeSetter(target);
  const lists = new TaskLists(options.spool);
  const extraction = new Extraction({ ...options, target }, times, lists);
  try {
    const result = await extraction.run();
    if (options.durable) await syncFileSystem(target);
    return result;
  } catch (error) {
    await times.abort();
    throw error;
  } finally {
    extraction.close();
    await lists.close();
  }
}

/** One call for the whole tree: syncing file by file would take far longer. It also reports what could not be written. */
async function syncFileSystem(target: Directory): Promise<void> {
  const child = spawn('sync', ['-f', '--', '/proc/self/fd/3'], { stdio: ['ignore', 'ignore', 'ignore', target.fd] });
  const failed = (cause: unknown) =>
    new LifeboatError('TOOL_FAILED', `what was restored to ${target.place} could not be written to the disk`, {
      cause,
    });
  const [status, signal] = await once(child, 'close').catch((error: unknown) => {
    throw failed(error);
  });
  if (status !== 0) throw failed(new Error(`sync ended with ${signal ?? `status ${status}`}`));
}
