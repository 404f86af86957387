import type { ErrorInfo } from '../base/errors.ts';
import type { Problem } from '../plan/model.ts';
import type { Alarm } from './alarm.ts';
import type { DrillNews, DrillReport } from './drill-report.ts';
import type { Fall } from './fall.ts';
import type { NamedStored, Stored } from './last-good.ts';
import type { Letter } from './letter.ts';
import type { Trigger } from './trigger.ts';

/** `partial`: some of the requested data was stored, and some was not. */
export type RunStatus = 'ok' | 'partial' | 'failed';

/** One source's share of a run. Sizes in bytes, durations in milliseconds. */
export interface SourceReport extends Stored {
  name: string;
  kind: 'postgres' | 'base' | 'volume' | 'files';
  /** `partial`: stored, but some files or databases could not be read */
  status: 'ok' | 'partial' | 'failed';
  durationMs: number;
  /** all bytes of the source */
  bytes: number;
  files: number;
  /** bytes that this run added to the repository for the source */
  newBytes: number;
  newFiles: number;
  /** one line for people: `2 databases, 61 tables, 1,523,118 rows` */
  summary: string;
  warnings: string[];
  /** data that the source has lost, and nobody has accepted that; the snapshot is good */
  fell?: Fall;
  error?: ErrorInfo;
  /** id of the run, if the result comes from an earlier try of the same scheduled run */
  run?: string;
}

/** A source that was not part of a run, and needs attention because of its own newest result. */
export interface OtherSource extends Stored {
  name: string;
  /** `late`: two of its scheduled times have passed since its last good backup. `vanished`: it no longer exists */
  attention: 'failed' | 'partial' | 'late' | 'vanished';
  /** ISO time of that result */
  at?: string;
  error?: ErrorInfo;
}

/** The result of retention: removed snapshots, objects, and the bytes of these objects. */
export interface Pruned {
  snapshots: number;
  objects: number;
  bytes: number;
  /** what the destination refused to delete: because of a lock, or a key that may only add */
  refused?: { snapshots: number; objects: number };
  /** ids of snapshots whose manifests are damaged, and the number of objects that stay because these may name them */
  unreadable?: { snapshots: string[]; objects: number };
  /** what stays because these sources failed last */
  held?: { snapshots: number; sources: string[] };
  /** keys of lists of packs that cannot be read, so no pack was deleted */
  unread?: string[];
}

/** The result of one copy of the repository. Bytes as stored. */
export interface CopyReport {
  /** the location without its options: `s3://bucket/prefix` */
  name: string;
  /** `partial`: everything was copied except what is damaged at the destination */
  status: RunStatus;
  /** what this run copied */
  snapshots: number;
  objects: number;
  bytes: number;
  /** ISO time since when the copy lacks something; absent when it is complete */
  behindSince?: string;
  error?: ErrorInfo;
  /** the copy is the destination under another name, so nothing is removed from it */
  isDestination?: true;
  /** problems of a complete copy, such as locks that could not be extended */
  problems?: Problem[];
  /** what its own retention removed; absent when it did not run */
  pruned?: Pruned;
  /** why its retention failed; the copy itself is complete */
  pruneError?: ErrorInfo;
}

/** Identifies a run from its first moment. */
export interface RunStart {
  /** also the snapshot's id if the run commits one */
  id: string;
  /** UUID for healthchecks.io's rid */
  rid: string;
  project: string;
  trigger: Trigger;
  /** ISO time */
  start: string;
  sources: string[];
}

/** The outcome of a run, as notified, printed and kept. Redacted before it leaves the process. */
export interface RunReport extends RunStart {
  end: string;
  status: RunStatus;
  /** id of the committed snapshot; absent when nothing was committed. Of several tries, the newest */
  snapshot?: string;
  /** of its sources, and of those that only an earlier try has a result of, see {@link SourceReport.run} */
  results: SourceReport[];
  problems: Problem[];
  /** sources that were not part of this run and need attention; absent when there are none */
  others?: OtherSource[];
  /** why the run failed as a whole, if no single source is the reason */
  error?: ErrorInfo;
  /**
   * the last good snapshots of the sources that the run did not store, if it failed as a whole; absent if they are
   * unknown. A failed source has its own, see {@link SourceReport.lastGood}
   */
  safe?: NamedStored[];
  /** results of the copies; absent when there are none, or when there was nothing to copy */
  copies?: CopyReport[];
  /** what the prune after the run removed; absent when there was no prune */
  pruned?: Pruned;
  /** sequence of the newest snapshot when the run began, 0 for none; absent when that could not be read */
  after?: number;
  /** where it was stored: `/backups` */
  destination: string;
  logTail: string[];
  /** status after the previous run, see {@link overall}; for LIFEBOAT_NOTIFY=change */
  previousStatus?: RunStatus;
  /** ISO time of the next scheduled run, when known */
  nextRun?: string;
  /**
   * ISO time at which the failed part is tried again. `quiet`: only the last try notifies people, and its report covers
   * this one. False while the agent stops, because it may not come back.
   */
  retry?: { at: string; quiet: boolean };
}

/** The status after a run, over all sources: `ok` only if the sources that were not part of it are ok too. */
export function overall({ status, others = [] }: Pick<RunReport, 'status' | 'others'>): RunStatus {
  return status === 'ok' && others.length > 0 ? 'partial' : status;
}

/** The progress of a source. Sent often, so a listener must handle it quickly. */
export interface Progress {
  source: string;
  /** `dumping app`, `reading files`, `storing` */
  phase: string;
  /** bytes */
  done: number;
  /** bytes, if known */
  total?: number;
  /** size of the data that is dumped, bytes: a dump is compressed and has no indexes, so it is often much smaller */
  from?: number;
  files?: number;
  /** true while the run waits for something other than its own work, which `phase` names */
  waits?: boolean;
}

/** Receives the progress of one source. */
export type ProgressSink = (progress: Omit<Progress, 'source'>) => void;

/** Identifies a restore, or a rollback of one, from the moment it begins to change data. */
export interface RestoreStart {
  id: string;
  project: string;
  verb: 'restore' | 'rollback';
  /** the source of the data */
  source: string;
  /** where the data goes: a source, or a directory */
  target: string;
  /** the snapshot that the data comes from */
  snapshot: string;
  /** ISO time */
  start: string;
}

/** One item that was restored. */
export interface RestoredItem {
  /** database, table, volume or directory */
  target: string;
  tables?: number;
  rows?: number;
  files?: number;
  bytes?: number;
  /** name of the replaced data, which stays for `lifeboat rollback` */
  kept?: string;
}

/** An object of a dump that the restore left out, because the server refused it. */
export interface SkippedObject {
  database: string;
  /** as `pg_dump` calls it, in lower case: `fk constraint`, `index`; `rows` for those of a table */
  kind: string;
  /** with its schema; for a constraint, trigger or policy: that of its table, a space, and its own name */
  name: string;
  /** the statement that creates it, shortened; absent if it may contain credentials */
  statement?: string;
  /** the server's message */
  message: string;
}

/** The outcome of a restore: notified, printed and stored as `<project>/restores/<id>.json`. */
export interface RestoreReport extends RestoreStart {
  end: string;
  /** `partial`: the data is restored, but something else failed */
  status: RunStatus;
  restored: RestoredItem[];
  /** databases that could not be restored and are unchanged; absent when there are none */
  failed?: { target: string; error: ErrorInfo }[];
  /** what `--skip-failed` left out; absent when nothing was */
  skipped?: SkippedObject[];
  /** the steps in order, in milliseconds */
  steps: { name: string; durationMs: number }[];
  checks: { name: string; ok: boolean; detail?: string }[];
  /** how long the restore worked, from the confirmation on, milliseconds */
  workMs?: number;
  /** sources that it brought back as a whole, so that `workMs` measures their recovery */
  whole?: string[];
  /** the services ran while databases were built, and were stopped only for the swap */
  live?: true;
  /** how long services were stopped, in milliseconds; absent if none was */
  stoppedMs?: number;
  /** how long the data was being swapped and could not be used, in milliseconds; absent if nothing was replaced */
  withoutDataMs?: number;
  /** id of the pinned snapshot of the replaced data */
  safety?: string;
  canRollBack: boolean;
  /** what a user does to undo it, if `lifeboat rollback` cannot */
  undo?: string;
  /** of a rollback: id of the restore that it undid */
  of?: string;
  warnings: string[];
  error?: ErrorInfo;
}

/** `open`: all open alarms. `wal-seen`: every few minutes. `failing`: sources with late WAL. */
export type RunEvent =
  | { type: 'alarms'; alarms: Alarm[]; open: Alarm[] }
  | { type: 'letter'; letter: Letter }
  | { type: 'wal-seen'; sources: string[]; failing: string[] }
  | ({ type: 'drill-finished'; report: DrillReport } & DrillNews)
  | { type: 'restore-started'; restore: RestoreStart }
  | { type: 'restore-finished'; report: RestoreReport }
  | { type: 'run-started'; run: RunStart }
  | { type: 'source-started'; source: string }
  | { type: 'progress'; progress: Progress }
  | { type: 'source-finished'; result: SourceReport }
  | { type: 'run-finished'; report: RunReport };

/**
 * Receives the events of runs, such as a notifier. It may be slow or throw: the dispatcher limits its time, and then
 * aborts the signal. `keep` stores an event that there is no time to handle, and returns whether it did.
 */
export interface Listener {
  readonly name: string;
  handle(event: RunEvent, signal: AbortSignal): Promise<void> | void;
  keep?(event: RunEvent): Promise<boolean>;
}
