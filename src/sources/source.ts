import type { ErrorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { LeftOutData, Mount } from '../plan/model.ts';
import type { Progress } from '../report/events.ts';

/**
 * Where a tree can be read: in this process, in another process of the agent's container (what is mounted may hang, and a
 * process with a hanging system call cannot even end), or only by a helper that mounts the volume.
 */
export type Reach = { kind: 'here' } | { kind: 'process' } | { kind: 'helper'; mount: Mount };

/** A database of a server: in the tree, unless there is an error. */
export interface CapturedDatabase {
  name: string;
  /** why it is missing in the tree */
  error?: ErrorInfo;
  /** nobody can connect to it, and nobody asked for it by name: its absence is no failure */
  closed?: true;
}

/** What one source hands to the store. */
export interface CapturedTree {
  /** absolute path of the tree's root directory, where it is reached from */
  root: string;
  reach: Reach;
  /** globs over paths relative to the root; empty include means everything */
  include: string[];
  exclude: string[];
  leaveOut?: LeftOutData;
  /** JSON document of recorded facts: versions, databases, row counts */
  facts: Record<string, unknown>;
  /** one line for people */
  summary: string;
  warnings: string[];
  /** of a server: those that were to be backed up, also those that are missing in the tree */
  databases?: CapturedDatabase[];
  /** of a server: why its roles and tablespaces are missing in the tree */
  withoutGlobals?: ErrorInfo;
  /** of an import: why parts of the original are missing in the tree */
  incomplete?: ErrorInfo;
  /** image digest or id the source ran on, if any */
  image?: string;
}

/** What a source needs while it captures. */
export interface CaptureContext {
  /** id of the run: names sessions, helpers and spool directories */
  runId: string;
  /** an empty directory of this run and source inside the spool */
  spool: string;
  log: Log;
  signal: AbortSignal;
  progress(progress: Omit<Progress, 'source'>): void;
}

/** One thing to back up. The way back is that of the restores, by kind: what one replaces is not what one reads. */
export interface Source {
  readonly name: string;
  readonly kind: 'postgres' | 'volume' | 'files';
  /**
   * Makes the source's state available as a tree and calls `store` while it is held (a stopped container stays stopped
   * until `store` settled). Whatever it started or stopped is undone before the promise settles, also on failure.
   */
  capture<T>(context: CaptureContext, store: (tree: CapturedTree) => Promise<T>): Promise<T>;
}
