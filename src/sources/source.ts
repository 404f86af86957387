import type { Readable } from 'node:stream';
import type { ErrorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Mount } from '../plan/model.ts';
import type { FileMounts, LeftOutData } from '../plan/values/file-mounts.ts';
import type { Progress } from '../report/events.ts';

/**
 * Where a tree can be read: in this process, in another process of the agent's container, or only by a helper that
 * mounts the volume. A mount gets a process of its own because it may hang, and a process with a hanging system call
 * cannot exit.
 */
export type Reach = { kind: 'here' } | { kind: 'process' } | { kind: 'helper'; mount: Mount };

/** A database of a server. Without an error it is in the tree. */
export interface CapturedDatabase {
  name: string;
  /** why it is missing from the tree */
  error?: ErrorInfo;
  /** nobody can connect to it, and no setting names it, so its absence is not a failure */
  closed?: true;
}

/** A tree that arrives as one tar, such as a base backup. No directory holds it. */
export interface TarTree {
  /** Passes the tar to `work`. Rejects if the program that writes the tar fails, whatever `work` has read. */
  read<T>(work: (tar: Readable) => Promise<T>): Promise<T>;
  /** receives the content of small files, by their paths, as they are stored */
  seen: Readonly<Record<string, (content: Buffer) => void>>;
  /** Compares the finished index, a plain file, with the source's own record. @throws PG_BASE_FAILED */
  check(indexPath: string): Promise<void>;
}

/** The tree that a source passes to the store. */
export interface CapturedTree {
  /** absolute path of the tree's root directory, as `reach` sees it */
  root: string;
  /** replaces the directory at `root` */
  tar?: TarTree;
  /** of a base backup: the place of its data in the write-ahead log; known once the tree is stored */
  base?: BaseFacts;
  /** of a base backup: names in the data directory that restores use for old data, see `parseAreaName` */
  areas?: string[];
  reach: Reach;
  /** globs over paths relative to the root; an empty list includes everything */
  include: string[];
  exclude: string[];
  leaveOut?: LeftOutData;
  /** what containers mount from inside the tree; absent if it is nothing */
  fileMounts?: FileMounts;
  /** JSON document of the recorded facts: versions, databases, row counts */
  facts: Record<string, unknown>;
  /** one line for the user */
  summary: string;
  warnings: string[];
  /** of a server: all databases that the backup selects, including those that are missing from the tree */
  databases?: CapturedDatabase[];
  /** of a server: why its roles and tablespaces are missing from the tree */
  withoutGlobals?: ErrorInfo;
  /** of an import: why parts of the original are missing from the tree */
  incomplete?: ErrorInfo;
  /** id of the image that the source ran on, if any */
  image?: string;
  /** the name under which a registry has that image */
  imageDigest?: string;
}

/** Where the data of a base backup is in the write-ahead log, as its manifest records it. */
export interface BaseFacts {
  systemId: string;
  timeline: number;
  /** positions: recovery reads from `startLsn`, and the data is consistent from `stopLsn` on */
  startLsn: string;
  stopLsn: string;
  /** ISO times by the server's clock, before the backup began and after it had ended */
  startTime: string;
  stopTime: string;
  /** number of the first page of the history that the server wrote meanwhile; absent: unknown */
  era?: number;
}

/** The context of one capture. */
export interface CaptureContext {
  /** id of the run; names its sessions, helpers and spool directories */
  runId: string;
  /** an empty directory in the spool, for this run and source */
  spool: string;
  log: Log;
  signal: AbortSignal;
  progress(progress: Omit<Progress, 'source'>): void;
}

/** A source of backups. Restores are implemented separately for each kind. */
export interface Source {
  readonly name: string;
  readonly kind: 'postgres' | 'base' | 'volume' | 'files';
  /**
   * Makes the state of the source available as a tree, and calls `store` while the source is held: a stopped container
   * stays stopped until `store` is finished. Before this method returns or throws, it undoes everything that it started
   * or stopped.
   */
  capture<T>(context: CaptureContext, store: (tree: CapturedTree) => Promise<T>): Promise<T>;
}
