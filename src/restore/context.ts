import type { ErrorInfo } from '../base/errors.ts';
import type { Engine } from '../docker/engine.ts';
import type { HelperLimits } from '../docker/helper.ts';
import type { Mount, PlannedSource, PostgresSource, VolumeSource } from '../plan/model.ts';
import type { ProgressSink, RestoredItem, RestoreReport, RunReport, SkippedObject } from '../report/events.ts';
import type { ReadingOptions } from '../report/restore-command.ts';
import type { Journal } from '../run/journal.ts';
import type { Lock } from '../run/process-lock.ts';
import type { HoldDeps } from '../run/release.ts';
import type { RunDeps } from '../run/run-deps.ts';
import type { Rollback } from '../run/state.ts';
import type { Clients } from '../sources/postgres/facts/clients.ts';
import type { SharedDirectory } from '../sources/postgres/server/helper-mounts.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import type { Manifest, ManifestSource } from '../store/objects/manifest.ts';
import type { PackRef } from '../store/packs/pack-stream.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { TreeStore } from '../trees/runner.ts';
import type { ServiceCheck } from './service-health.ts';

/** The dependencies of a restore or a rollback. */
export interface RestoreDeps extends RunDeps {
  /**
   * `patient`, default true: waits for a moment if another run is in progress. `ask`, default as `patient`: asks a copy
   * that holds the lock to give way. Throws LOCKED.
   */
  lock(options?: { ask: boolean; patient?: boolean }): Promise<Lock>;
  engine: Engine;
  stallTimeoutMs: number;
  agentMounts: readonly Mount[];
  treeStore: TreeStore;
  /** the repository is not the agent's own, so no safety snapshot is stored there */
  otherRepository: boolean;
  /** the project is a copy of the agent's own */
  isCopy?: boolean;
  repository(): Promise<Repository>;
  holdDeps(journal: Journal): HoldDeps;
  /** Backs up sources under the lock that the restore holds. Notifies nobody. */
  safetyBackup(sources: readonly string[], signal: AbortSignal): Promise<RunReport>;
  /** Opens a server. Waits for one that is starting, see `whenUp`, and says so. */
  openTools(
    source: PostgresSource,
    context: {
      runId: string;
      application: string;
      journal: Journal;
      withData?: boolean;
      share?: SharedDirectory;
      limits?: HelperLimits;
      signal: AbortSignal;
      say(line: string): void;
    },
  ): Promise<Tools>;
}

/** The options that all commands share that may replace data. */
export interface Consent {
  /** Asks the user for confirmation before data is replaced or dropped. @throws NOT_CONFIRMED */
  confirm(name: string): Promise<void>;
  /** false if {@link confirm} is certain to throw: there is neither a terminal nor the user's consent */
  canConfirm: boolean;
  /** the user consented in advance, and sees no preview before data is replaced */
  unattended?: true;
  /** stop the services that use the data until it is replaced */
  stopServices: boolean;
  /** must answer 2xx when all services run again */
  healthUrl?: URL;
  signal: AbortSignal;
  /** Shows the user one line about the progress. */
  say(line: string): void;
}

export interface RestoreRequest extends Consent, ReadingOptions {
  /** `latest`, the id of a snapshot, or the start of one */
  snapshot: string;
  source: string;
  /** names and patterns, for a restore of several sources; absent: all of them */
  only?: readonly string[];
  /** another source to restore into */
  to?: string;
  /** one recorded database; absent: all databases of the snapshot */
  database?: string;
  /** name to restore the database under */
  toDatabase?: string;
  /** directory in the agent to restore a volume or `config` into */
  toDirectory?: string;
  /** `schema.name` of the tables to restore instead of whole databases */
  tables: string[];
  /** name to restore a single table under, in the same schema */
  as?: string;
  /** globs of files to restore instead of whole volumes */
  paths: string[];
  /** with `paths`: also replace files that are newer than those of the snapshot */
  overwrite: boolean;
  /** create all roles of the snapshot that the server lacks, not only those that restored objects need */
  globals: boolean;
  unsigned: boolean;
  /** only show the preview */
  dryRun: boolean;
  /** first store the data that is replaced, as a pinned snapshot */
  safety: boolean;
  /** leave out the objects that the server refuses, and restore everything else */
  skipFailed: boolean;
  /** build databases while the services run, and stop these only for the swap */
  live: boolean;
}

/** The effects of a planned restore. Preparing it changes nothing. */
export interface RestorePreview {
  /** the source whose data is replaced or added to; absent for a restore to a directory */
  target?: PlannedSource;
  /** the data directory of `target` that is replaced as a whole, so its server is stopped, too */
  dataDirectory?: VolumeSource;
  /** the data that is replaced: a name, and a description of its present content */
  replaces: { name: string; detail: string }[];
  /** what the restore creates under unused names */
  creates: string[];
  /** databases that stay as they are, with the reason */
  left: { database: string; reason: string }[];
  /** the most that is read from the repository, bytes */
  bytes: number;
  space?: { where: string; needed: number; free: number | undefined };
  /** of the content that is fetched into the spool before it is restored; bytes */
  spool?: { needed: number; free: number };
  /** notes that the user should read before confirming */
  notes: string[];
}

/** The part of a preview that the result of a restore repeats, also of a dry run. */
export interface PreviewSummary
  extends Pick<RestorePreview, 'replaces' | 'creates' | 'bytes' | 'notes' | 'space' | 'spool'> {
  /** containers that are stopped and started again */
  stops: string[];
  /** clients that are connected to a replaced database, and are not stopped */
  alsoConnected: { name: string; reason: string }[];
  /** containers that can write to a replaced volume, and are not stopped */
  alsoWriting: { name: string; reason: string }[];
}

/** The result of a restore. */
export interface Restored {
  restored: RestoredItem[];
  /** see {@link RestoreReport.undo} */
  undo?: string;
  /** system identifier of the server that holds the databases now, if it can be read */
  system?: string;
  withoutDataMs?: number;
  warnings: string[];
  /** objects that were left out with `skipFailed` */
  skipped?: SkippedObject[];
  /** databases that could not be restored, and are unchanged */
  failed?: { target: string; error: ErrorInfo }[];
  /** durations of parts of the work, milliseconds */
  steps?: { name: string; durationMs: number }[];
}

/** A restore that has inspected its target, and has changed nothing yet. */
export interface PreparedRestore {
  preview: RestorePreview;
  /** Reads who is connected to the databases that are replaced. Absent if no database is. */
  clients?(): Promise<Clients>;
  /**
   * Fetches the content from the repository, and compares it with the manifest. The tree of a volume is built here.
   * Services run meanwhile. Absent if `swap` does that.
   */
  fetch?(): Promise<void>;
  /**
   * Builds databases alongside the present ones, and compares them with the record. Services are stopped before it, or
   * with `live` after it. Absent for a volume, and if `swap` does that.
   */
  build?(): Promise<void>;
  /** Puts the data in place. Services are stopped. Calls `keep` before it puts data aside. */
  swap(keep: (rollback: KeptRecord) => Promise<void>): Promise<Restored>;
  /**
   * Checks the data in use once all services run again. Absent if there is nothing more to check. Rejects only with the
   * reason of the signal.
   */
  look?(): Promise<ServiceCheck[]>;
  /** Drops data that was built and not put in place. Never rejects. */
  close(): Promise<void>;
}

/** The record of old data, from which a rollback brings the data back. */
export type KeptRecord = Pick<Rollback, 'databases' | 'volume' | 'dataDirectory'>;

/** The report of a restore, with the databases that stay as they are. */
export interface RestoreResult extends RestoreReport {
  left: { database: string; reason: string }[];
  /** what the preview showed */
  preview: PreviewSummary;
  /** of a restore of all sources: its restore, its error, or why it stays as it is */
  sources?: { source: string; snapshot?: string; restore?: string; error?: ErrorInfo; unchanged?: string }[];
  durationMs: number;
}

/** The state of one restore. */
export interface RestoreContext {
  id: string;
  /** id of the restore of all sources that it belongs to, if any */
  group?: string;
  journal: Journal;
  directory: string;
  /** receives the progress */
  progress: ProgressSink;
  repository: Repository;
  snapshot: Manifest;
  entry: ManifestSource;
  /** the packs of the entry */
  packs: PackRef[];
}
