import { LifeboatError } from '../../base/errors.ts';
import { storedSize } from '../filesystem/data-ranges.ts';
import { Directory } from '../filesystem/directory.ts';
import type { FileStat } from '../filesystem/file-stat.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { OpenDirectories } from '../filesystem/open-directories.ts';
import { comparePaths, shortPath, split, type TreePath } from '../filesystem/path.ts';
import { type WalkItem, walk } from '../filesystem/walk.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import { isInParts, lastWritten } from '../sqlite/sqlite-file.ts';

/** What is to be compared. */
interface CompareOptions {
  /** absolute path of the volume */
  root: string;
  /** of a snapshot: checked, in order */
  index: AsyncIterable<IndexEntry>;
  packs: readonly PackRef[];
  /** only these paths; absent: everything, so that what the snapshot does not have counts too */
  select?: PathPredicate | undefined;
  /** with `select`: what is newer than in the snapshot is replaced too */
  overwrite: boolean;
  signal?: AbortSignal;
  progress?(progress: { done: number; files: number }): void;
}

/** What a restore of the snapshot would do to the volume. Counts are of files and symlinks, sizes in bytes. */
export interface TreeDifference {
  /** all that the volume holds now; `entries` with directories, and without the root */
  present: { entries: number; files: number; bytes: number };
  /** in the snapshot only */
  added: number;
  /** on both sides, and not the same */
  replaced: number;
  /** in the volume only: it would be moved away; 0 with a selection */
  extra: number;
  /** size, time, owner and mode are the same; whether the content is too shows when it is read */
  equal: number;
  /** of `replaced`, or with a selection and no `overwrite` left alone: changed in the volume after the snapshot's state */
  newer: number;
  /** bytes to be read from the repository at most: whole packs */
  fetch: number;
  /** bytes to be written, at most */
  needed: number;
  free: number;
}

const PROGRESS_MS = 250;
/** What a file takes beside its content, at most on common file systems: its last block, and itself. */
const FILE_OVERHEAD = 4096 + 512;

/**
 * Compares a snapshot with what a volume holds, without reading files: two sorted streams, so that memory does not grow.
 *
 * @throws TREE_UNREADABLE; TREE_TARGET_REFUSED when another file system is mounted inside the volume
 */
export async function compareTree(options: CompareOptions): Promise<TreeDifference> {
  const root = Directory.open(options.root);
  const open = new OpenDirectories(root);
  try {
    const comparison = new Comparison(options, open);
    const live = walk(root, { ...(options.signal ? { signal: options.signal } : {}) });
    let beside = await live.next();
    for await (const entry of options.index) {
      while (!beside.done && comparePaths(beside.value.path, entry.path) < 0) {
        comparison.extra(beside.value.path, beside.value.stat);
        beside = await live.next();
      }
      if (!beside.done && beside.value.path === entry.path) {
        comparison.both(entry, beside.value);
        beside = await live.next();
      } else comparison.added(entry);
    }
    for (; !beside.done; beside = await live.next()) comparison.extra(beside.value.path, beside.value.stat);
    return comparison.result(root.free());
  } finally {
    open.close();
    root.close();
  }
}

class Comparison {
  private readonly options: CompareOptions;
  private readonly open: OpenDirectories;
  private readonly packs = new Set<string>();
  private readonly counts = { added: 0, replaced: 0, extra: 0, equal: 0, newer: 0, needed: 0 };
  private readonly present = { entries: 0, files: 0, bytes: 0 };
  private dev: bigint | undefined;
  private toldAt = 0;

  constructor(options: CompareOptions, open: OpenDirectories) {
    this.options = options;
    this.open = open;
  }

  extra(path: TreePath, stat: FileStat | undefined): void {
    this.see(path, stat);
    if (!this.options.select && stat?.type !== 'directory') this.counts.extra++;
  }

  added(entry: IndexEntry): void {
    if (!this.wanted(entry)) return;
    this.counts.added++;
    this.need(entry, true);
  }

  both(entry: IndexEntry, { stat, target }: WalkItem): void {
    this.see(entry.path, stat);
    if (!this.wanted(entry)) return;
    const isDatabase = entry.sqlite !== undefined && stat?.type === 'file';
    const inParts = isDatabase && this.at(entry.path, isInParts) === true;
    if (stat && !inParts && isEqual(entry, stat, target)) {
      this.counts.equal++;
      // Written anew all the same, but not fetched.
      if (!this.options.select) this.need(entry, false);
      return;
    }
    const written = (live: FileStat) =>
      (isDatabase ? this.at(entry.path, (file) => lastWritten(live, file)) : undefined) ?? live.mtime;
    const newer = stat !== undefined && written(stat) > entry.mtime;
    if (newer) this.counts.newer++;
    if (newer && this.options.select && !this.options.overwrite) return;
    this.counts.replaced++;
    this.need(entry, true);
  }

  /** Asks something of a file by its path. */
  private at<T>(path: TreePath, ask: (file: Buffer) => T): T | undefined {
    const { parent, name } = split(path);
    return this.open.use(parent, (directory) => ask(directory.at(name)));
  }

  result(free: number): TreeDifference {
    const fetch = this.options.packs.reduce((sum, { id, size }) => sum + (this.packs.has(id) ? size : 0), 0);
    return { present: this.present, ...this.counts, fetch, free };
  }

  private wanted({ path, type }: IndexEntry): boolean {
    const kept = type === 'file' || type === 'hardlink' || type === 'symlink';
    return kept && (this.options.select?.(path, false) ?? true);
  }

  private need(entry: IndexEntry, fetched: boolean): void {
    const { type, sparse, ranges, pack } = entry;
    this.counts.needed += FILE_OVERHEAD;
    // How much of a small file with holes takes space is not recorded.
    if (type === 'file' && (ranges || !sparse)) this.counts.needed += storedSize(entry);
    if (fetched && pack !== undefined) this.packs.add(pack);
  }

  private see(path: TreePath, stat: FileStat | undefined): void {
    const now = Date.now();
    if (now - this.toldAt >= PROGRESS_MS) {
      this.toldAt = now;
      this.options.progress?.({ done: this.present.bytes, files: this.present.files });
    }
    if (!stat) return;
    this.dev ??= stat.dev;
    if (stat.dev !== this.dev) {
      throw new LifeboatError('TREE_TARGET_REFUSED', `another file system is mounted at ${shortPath(path)} inside it`, {
        hint: 'Restore into a directory with --to-directory, and copy from there.',
      });
    }
    if (path !== '') this.present.entries++;
    if (stat.type === 'directory') return;
    this.present.files++;
    if (stat.type === 'file') this.present.bytes += stat.size;
  }
}

function isEqual(entry: IndexEntry, stat: FileStat, target: TreePath | undefined): boolean {
  const { mode, uid, gid, mtime } = stat;
  if (uid !== entry.uid || gid !== entry.gid || mtime !== entry.mtime) return false;
  if (entry.type === 'symlink') return stat.type === 'symlink' && target === entry.target;
  return stat.type === 'file' && mode === entry.mode && stat.size === entry.size;
}
