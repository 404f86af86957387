import type { ErrorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { FileMounts, LeftOutData, Mount } from '../plan/model.ts';
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

/** The tree that a source passes to the store. */
export interface CapturedTree {
  /** absolute path of the tree's root directory, as `reach` sees it */
  root: string;
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
  /** digest or id of the image that the source ran on, if any */
  image?: string;
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
  readonly kind: 'postgres' | 'volume' | 'files';
  /**
   * Makes the state of the source available as a tree, and calls `store` while the source is held: a stopped container
   * stays stopped until `store` is finished. Before this method returns or throws, it undoes everything that it started
   * or stopped.
   */
  capture<T>(context: CaptureContext, store: (tree: CapturedTree) => Promise<T>): Promise<T>;
}
