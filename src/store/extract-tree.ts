import { execFile } from 'node:child_process';
import { mkdir, readdir } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Destination } from '../destinations/destination.ts';
import { LifeboatError } from '../errors.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import type { PathPredicate } from './glob.ts';
import type { IndexEntry } from './index-file.ts';
import type { PackRef } from './pack-stream.ts';
import { TaskLists } from './task-lists.ts';
import { createTimeSetter } from './times.ts';
import { Extraction } from './tree-extraction.ts';
import type { FileType } from './walk.ts';

/** What to bring back, and where to. */
export interface ExtractTreeOptions {
  /** as `readIndex` gives it: checked, in order */
  index: AsyncIterable<IndexEntry>;
  packs: readonly PackRef[];
  destination: Destination;
  keys: SealKeys;
  /** absolute path of a directory that is empty or does not exist */
  target: string;
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
  takeOver?(entry: IndexEntry, to: Buffer): Promise<boolean>;
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
 * hard links, holes. Each pack is read once. Nothing outside `target` can be reached: directories are made here, and
 * symlinks only after every file is written.
 *
 * @throws TREE_TARGET_NOT_EMPTY before anything is written; TREE_TARGET_FULL, OBJECT_MISSING, OBJECT_DAMAGED, KEY_MISSING, KEY_WRONG, SPOOL_FULL; the signal's reason
 */
export async function extractTree(options: ExtractTreeOptions): Promise<ExtractedTree> {
  await claimTarget(options.target);
  const times = await createTimeSetter();
  const lists = new TaskLists(options.spool);
  try {
    const extraction = new Extraction(options, times, lists);
    const result = await extraction.run();
    if (options.durable) await syncFileSystem(options.target);
    return result;
  } catch (error) {
    times.abort();
    throw error;
  } finally {
    await lists.close();
  }
}

/** One call for the whole tree: syncing file by file would take far longer. It also reports what could not be written. */
async function syncFileSystem(target: string): Promise<void> {
  try {
    await promisify(execFile)('sync', ['-f', '--', target]);
  } catch (cause) {
    throw new LifeboatError('TOOL_FAILED', `what was restored to ${target} could not be written to the disk`, {
      cause,
    });
  }
}

async function claimTarget(target: string): Promise<void> {
  await mkdir(target, { recursive: true, mode: 0o700 });
  const names = await readdir(target);
  if (names.length === 0) return;
  throw new LifeboatError('TREE_TARGET_NOT_EMPTY', `the directory ${target} is not empty`, {
    hint: 'Restore into a new directory, and move its content once it is checked.',
  });
}
