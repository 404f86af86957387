import type { ErrorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Engine } from '../docker/engine.ts';
import type { Mount, Plan, PlannedSource, PostgresSource } from '../plan/model.ts';
import type { Dispatcher } from '../report/dispatch.ts';
import type { RestoredItem, RestoreReport, RunReport, SkippedObject } from '../report/events.ts';
import type { Journal } from '../run/journal.ts';
import type { Lock } from '../run/process-lock.ts';
import type { HoldDeps } from '../run/release.ts';
import type { Rollback, State } from '../run/state.ts';
import type { SharedDirectory } from '../sources/postgres/server/helper-mounts.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import type { Manifest, ManifestSource } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { ProgressSink } from '../trees/job.ts';
import type { TreeStore } from '../trees/runner.ts';

/** The dependencies of a restore or a rollback; wiring.ts makes them. */
export interface RestoreDeps {
  project: string;
  agentVersion: string;
  /** the agent's own container: never stopped by a restore */
  agentId: string;
  /** Throws LOCKED when another run is under way. `ask`, default true: a copy that holds it is asked to give way. */
  lock(options?: { ask: boolean }): Promise<Lock>;
  journals: string;
  /** directory of runs inside the spool */
  spool: string;
  /** removes a directory of a run there; see `clearDirectory` in spool.ts. Never rejects */
  clear(directory: string, runId: string): Promise<void>;
  log: Log;
  state: State;
  engine: Engine;
  dispatcher: Dispatcher;
  now(): Date;
  stallTimeoutMs: number;
  agentMounts: readonly Mount[];
  treeStore: TreeStore;
  recover(): Promise<void>;
  /** the repository is not the agent's own: no safety snapshot goes there */
  otherRepository: boolean;
  plan(): Promise<Plan>;
  repository(): Promise<Repository>;
  holdDeps(journal: Journal): HoldDeps;
  /** Backs up one source under the lock that the restore holds, told to nobody. */
  safetyBackup(source: string, signal: AbortSignal): Promise<RunReport>;
  openTools(
    source: PostgresSource,
    context: {
      runId: string;
      application: string;
      journal: Journal;
      withData?: boolean;
      share?: SharedDirectory;
      signal: AbortSignal;
    },
  ): Promise<Tools>;
}

/** What is common to everything that may replace data. */
export interface Consent {
  /** Asks whether to go on. Rejects with NOT_CONFIRMED. Called only when data would be replaced or dropped. */
  confirm(name: string): Promise<void>;
  /** the services that use the data are stopped meanwhile */
  stopServices: boolean;
  /** to be asked when everything runs again: 2xx is well */
  healthUrl?: URL;
  signal: AbortSignal;
  /** hears what is being done, a line for people at a time */
  say(line: string): void;
}

export interface RestoreRequest extends Consent {
  /** `latest`, a snapshot's id or the start of one */
  snapshot: string;
  source: string;
  /** another source to restore into */
  to?: string;
  /** one recorded database; absent: all of the snapshot */
  database?: string;
  /** name to restore the database under */
  toDatabase?: string;
  /** directory in the agent to restore a volume or `config` into */
  toDirectory?: string;
  /** `schema.name` of tables to restore instead of whole databases */
  tables: string[];
  /** name to restore the one table under, in the same schema */
  as?: string;
  /** globs of files to restore instead of whole volumes */
  paths: string[];
  /** with `paths`: replace files that are newer than the snapshot's too */
  overwrite: boolean;
  /** create all roles of the snapshot that the server lacks, not only when they are needed */
  globals: boolean;
  /** also from a snapshot that is not signed although a signing key is set */
  unsigned: boolean;
  /** only say what would be done */
  dryRun: boolean;
  /** store what is replaced as a pinned snapshot first */
  safety: boolean;
  /** leave out of a database what the server refuses, and restore all else */
  skipFailed: boolean;
}

/** What a restore would do, found out without changing anything. */
export interface RestorePreview {
  /** the source whose data is replaced or added to; absent when it goes to a directory */
  target?: PlannedSource;
  /** what data is replaced: a name, and in words what it holds now */
  replaces: { name: string; detail: string }[];
  /** what is made where nothing stood */
  creates: string[];
  /** databases that are left as they are, with the reason */
  left: { database: string; reason: string }[];
  /** bytes to be read from the repository, before decompression at most */
  bytes: number;
  space?: { where: string; needed: number; free: number | undefined };
  /** what else to know before going on */
  notes: string[];
}

/** What a restore made. */
export interface Restored {
  restored: RestoredItem[];
  withoutDataMs?: number;
  warnings: string[];
  /** what was left out with `skipFailed` */
  skipped?: SkippedObject[];
  /** databases that are as they were, because they could not be restored */
  failed?: { target: string; error: ErrorInfo }[];
  /** parts of the work whose time is shown; milliseconds */
  steps?: { name: string; durationMs: number }[];
}

/** A restore that has looked at its target, and has changed nothing yet. */
export interface PreparedRestore {
  preview: RestorePreview;
  /** Brings what is needed here, and compares it with the manifest. Absent where loading does. */
  fetch?(): Promise<void>;
  /** Makes it beside, compares it with the record, and swaps. `keep` is to be called before data is put aside. */
  load(keep: (rollback: KeptData) => Promise<void>): Promise<Restored>;
  /** Never rejects. */
  close(): Promise<void>;
}

/** Data that was put aside: what a rollback needs to bring it back. */
export type KeptData = Pick<Rollback, 'databases' | 'volume'>;

/** The outcome, with what was left alone. */
export interface RestoreResult extends RestoreReport {
  left: { database: string; reason: string }[];
  durationMs: number;
}

/** What belongs to one restore. */
export interface RestoreContext {
  id: string;
  journal: Journal;
  directory: string;
  /** hears how far it is */
  progress: ProgressSink;
  repository: Repository;
  snapshot: Manifest;
  entry: ManifestSource;
}
