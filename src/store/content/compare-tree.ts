import { LifeboatError } from '../../base/errors.ts';
import { storedSize } from '../filesystem/data-ranges.ts';
import { Directory } from '../filesystem/directory.ts';
import type { FileStat } from '../filesystem/file-stat.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { OpenDirectories } from '../filesystem/open-directories.ts';
import { comparePaths, shortPath, split, type TreePath } from '../filesystem/path.ts';
import type { IndexLine } from '../filesystem/read-index.ts';
import { type WalkItem, walk } from '../filesystem/walk.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import { isInParts, lastWritten } from '../sqlite/sqlite-file.ts';

/** Describes the volume and the snapshot to compare. */
interface CompareOptions {
  /** absolute path of the volume */
  root: string;
  /** index of a snapshot: checked, and in order */
  index: AsyncIterable<IndexLine>;
  packs: readonly PackRef[];
  /** selects paths; absent: everything, and files that only the volume has count too */
  select?: PathPredicate | undefined;
  /** with `select`: also replaces files that are newer than in the snapshot */
  overwrite: boolean;
  signal?: AbortSignal;
  progress?(progress: { done: number; files: number }): void;
}

/**
 * The changes that a restore of the snapshot would make to the volume. Counts are of files and symlinks, sizes in
 * bytes.
 */
export interface TreeDifference {
  /** the present content of the volume; `entries` includes directories, except the root */
  present: { entries: number; files: number; bytes: number };
  /** in the snapshot only */
  added: number;
  /** in both, but different */
  replaced: number;
  /** in the volume only, to be moved away; 0 with a selection */
  extra: number;
  /** size, time, owner and mode are equal; the content is compared only when it is read */
  equal: number;
  /**
   * changed in the volume after the snapshot; part of `replaced`, or left alone with a selection and without
   * `overwrite`
   */
  newer: number;
  /** upper bound of the bytes to read from the repository, as whole packs are read */
  fetch: number;
  /** upper bound of the bytes to write */
  needed: number;
  free: number;
}

const PROGRESS_MS = 250;
/** Space of a file in addition to its content, at most, on common file systems: its last block and its inode. Bytes. */
const FILE_OVERHEAD = 4096 + 512;

/**
 * Compares a snapshot with the content of a volume, without reading files. Both are read as sorted streams, so memory
 * does not grow.
 *
 * @throws TREE_UNREADABLE; TREE_TARGET_REFUSED if another file system is mounted inside the volume
 */
export async function compareTree(options: CompareOptions): Promise<TreeDifference> {
  const root = Directory.open(options.root);
  const open = new OpenDirectories(root);
  try {
    const comparison = new Comparison(options, open);
    const live = walk(root, { ...(options.signal ? { signal: options.signal } : {}) });
    let present = await live.next();
    for await (const entry of options.index) {
      if (entry.type === 'part') {
        comparison.part(entry.pack);
        continue;
      }
      while (!present.done && comparePaths(present.value.path, entry.path) < 0) {
        comparison.extra(present.value.path, present.value.stat);
        present = await live.next();
      }
      if (!present.done && present.value.path === entry.path) {
        comparison.both(entry, present.value);
        present = await live.next();
      } else comparison.added(entry);
    }
    for (; !present.done; present = await live.next()) comparison.extra(present.value.path, present.value.stat);
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
  /** whether the last entry is fetched; the packs of its parts follow */
  private isFetched = false;
  private readonly counts = { added: 0, replaced: 0, extra: 0, equal: 0, newer: 0, needed: 0 };
  private readonly present = { entries: 0, files: 0, bytes: 0 };
  private dev: bigint | undefined;
  private reportedAt = 0;

  constructor(options: CompareOptions, open: OpenDirectories) {
    this.options = options;
    this.open = open;
  }

  extra(path: TreePath, stat: FileStat | undefined): void {
    this.see(path, stat);
    if (!this.options.select && stat?.type !== 'directory') this.counts.extra++;
  }

  /** Notes the pack of a part of the last entry. */
  part(pack: string): void {
    if (this.isFetched) this.packs.add(pack);
  }

  added(entry: IndexEntry): void {
    this.isFetched = false;
    if (!this.wanted(entry)) return;
    this.counts.added++;
    this.need(entry, true);
  }

  both(entry: IndexEntry, { stat, target }: WalkItem): void {
    this.see(entry.path, stat);
    this.isFetched = false;
    if (!this.wanted(entry)) return;
    const isDatabase = entry.sqlite !== undefined && stat?.type === 'file';
    const inParts = isDatabase && this.at(entry.path, isInParts) === true;
    if (stat && !inParts && isEqual(entry, stat, target)) {
      this.counts.equal++;
      // The file is written again anyway, but not fetched.
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

  /** Calls `ask` with the path of a file by which it can be opened. */
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
    // The allocated size of a small file with holes is not recorded.
    if (type === 'file' && (ranges || !sparse)) this.counts.needed += storedSize(entry);
    this.isFetched = fetched;
    if (fetched && pack !== undefined) this.packs.add(pack);
  }

  private see(path: TreePath, stat: FileStat | undefined): void {
    const now = Date.now();
    if (now - this.reportedAt >= PROGRESS_MS) {
      this.reportedAt = now;
      this.options.progress?.({ done: this.present.bytes, files: this.present.files });
    }
    if (!stat) return;
    this.dev ??= stat.dev;
    if (stat.dev !== this.dev) {
      throw new LifeboatError('TREE_TARGET_REFUSED', `another file system is mounted at ${shortPath(path)} inside it`, {
        hint: 'Restore into a directory with --to-directory, then copy the files from there.',
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
