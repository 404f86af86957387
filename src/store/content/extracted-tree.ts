import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import type { Directory } from '../filesystem/directory.ts';
import type { FileType } from '../filesystem/file-stat.ts';
import type { PathPredicate } from '../filesystem/glob.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { IndexLine } from '../filesystem/read-index.ts';
import type { NewName } from '../filesystem/write-file.ts';
import type { PackRef } from '../packs/pack-stream.ts';

/** Describes the tree to restore, and where to. */
export interface ExtractTreeOptions {
  /** the index as `readIndexLines` yields it: checked, and in order */
  index: AsyncIterable<IndexLine>;
  packs: readonly PackRef[];
  destination: Destination;
  keys: SealKeys;
  /** an empty directory: open, or as an absolute path that need not exist */
  target: Directory | string;
  /** selects paths, together with their parent directories; absent: everything. See `selectByGlobs`. */
  select?: PathPredicate;
  /** an existing directory with room for one unpacked pack, and for lists of files */
  spool: string;
  /** resolve only once everything is on the disk, and not just in the cache of the operating system */
  durable?: boolean;
  /** restore user and group (requires root), and the setuid and setgid bits */
  owner: boolean;
  /**
   * Tries to create a file that is not empty from a local source, complete and with its owner and mode. Returns true if
   * it did, with the hash verified. Returns false if nothing of that name is left; the file is then fetched.
   */
  takeOver?(entry: IndexEntry, to: NewName): Promise<boolean>;
  signal?: AbortSignal;
  /** called a few times a second at most, and at the end; `done` in bytes */
  progress?(progress: { done: number; files: number }): void;
}

/** The restored tree. `files` includes hard links; `bytes` counts their content once. */
export interface ExtractedTree {
  entries: number;
  files: number;
  bytes: number;
  /** FIFOs, sockets and devices in the index, which are not created */
  skipped: Partial<Record<FileType, number>>;
}

/** The least time between two reports, milliseconds. */
const PROGRESS_MS = 250;

/** Reports the progress of an extraction, at most four times a second. */
export class ExtractionProgress {
  private readonly result: Readonly<ExtractedTree>;
  private readonly listener: ExtractTreeOptions['progress'];
  private last = 0;
  /** bytes written of incomplete large files */
  private underWay = 0;

  /** @param result counts what is complete */
  constructor(result: Readonly<ExtractedTree>, listener: ExtractTreeOptions['progress']) {
    this.result = result;
    this.listener = listener;
  }

  /** Counts bytes written of a large file. */
  heard(bytes: number): void {
    this.underWay += bytes;
    this.report();
  }

  /** Takes back the bytes of a large file, which the result counts from now on. */
  complete(bytes: number): void {
    this.underWay -= bytes;
  }

  /** Reports now if the last report is old enough, or if it `must` be reported. */
  report(must = false): void {
    const now = Date.now();
    if (!must && now - this.last < PROGRESS_MS) return;
    this.last = now;
    this.listener?.({ done: this.result.bytes + this.underWay, files: this.result.files });
  }
}
