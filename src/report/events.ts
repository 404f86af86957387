import type { ErrorInfo } from '../base/errors.ts';
import type { Problem } from '../plan/model.ts';

/**
 * What started a run. `catch-up`: a scheduled run that was missed while the agent was down. `safety`: a restore that is
 * about to replace data.
 */
export type Trigger = 'schedule' | 'catch-up' | 'manual' | 'safety' | 'import';

/** `partial`: something was stored, something that was asked for was not. */
export type RunStatus = 'ok' | 'partial' | 'failed';

/** One source's share of a run. Sizes in bytes, durations in milliseconds. */
export interface SourceReport {
  name: string;
  kind: 'postgres' | 'volume' | 'files';
  /** `partial`: stored, but some files or databases could not be read */
  status: 'ok' | 'partial' | 'failed';
  durationMs: number;
  /** all bytes of the source as seen */
  bytes: number;
  files: number;
  /** bytes that this run added to the repository for the source */
  newBytes: number;
  newFiles: number;
  /** one line for people: `2 databases, 61 tables, 1,523,118 rows` */
  summary: string;
  warnings: string[];
  /** it is suddenly much smaller than in its last good snapshot; the warnings say how much */
  fell?: boolean;
  error?: ErrorInfo;
  /** the last good snapshot of the source before this run, if any */
  lastGood?: LastGoodReport;
  /** it is of an earlier try of the same scheduled run: the id of that */
  run?: string;
}

/** The last good snapshot of a source. */
export interface LastGoodReport {
  snapshot: string;
  /** ISO time */
  at: string;
  /** no snapshot holds the whole source: this is the newest that holds a part of it */
  partial?: true;
}

/** A source that was no part of a run and is not well, by its own newest result. */
export interface OtherSource {
  name: string;
  /** `late`: two of its scheduled times have gone by since it was last backed up well. `vanished`: it is not there any more */
  attention: 'failed' | 'partial' | 'late' | 'vanished';
  /** ISO time of that result */
  at?: string;
  error?: ErrorInfo;
  lastGood?: LastGoodReport;
}

/** What retention removed: snapshots, objects of content, and the bytes of these. */
export interface Pruned {
  snapshots: number;
  objects: number;
  bytes: number;
  /** what it would have removed, and the destination does not let go: a lock, or a key that may only add */
  refused?: { snapshots: number; objects: number };
  /** what it would have removed, but for sources that failed last: of those nothing goes */
  held?: { snapshots: number; sources: string[] };
}

/** What became of one copy of the repository. Bytes as stored. */
export interface CopyReport {
  /** the location without its options: `s3://bucket/prefix` */
  name: string;
  /** `partial`: it got all but what is damaged at the destination */
  status: RunStatus;
  /** what it got this time */
  snapshots: number;
  objects: number;
  bytes: number;
  /** ISO time since when there is something that it lacks; absent when it lacks nothing */
  behindSince?: string;
  error?: ErrorInfo;
  /** it is the destination under another name, so nothing is removed from that */
  isDestination?: true;
  /** what did not keep it from having everything: locks that could not be prolonged */
  problems?: Problem[];
  /** what its own retention removed; absent when it was not asked */
  pruned?: Pruned;
  /** why its retention could not remove what it should; the copy is well all the same */
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
  /** id of the committed snapshot; absent when nothing was committed. Of several tries: the newest that one of them committed */
  snapshot?: string;
  /** of its sources, and of those that only an earlier try of it had, see {@link SourceReport.run} */
  results: SourceReport[];
  problems: Problem[];
  /** sources that this run left out and that are not well; absent when there is none */
  others?: OtherSource[];
  /** why the run as a whole failed, when it is not one source's doing */
  error?: ErrorInfo;
  /** what became of each copy; absent when there is none, or nothing was to be copied */
  copies?: CopyReport[];
  /** what the prune after it removed; absent when there was none */
  pruned?: Pruned;
  /** the end of the chain of snapshots when it began: a sequence, 0 for none; absent when that could not be read */
  after?: number;
  /** where it was stored: `/backups` */
  destination: string;
  logTail: string[];
  /** how things stood after the run before this one, see {@link overall}; for LIFEBOAT_NOTIFY=change */
  previousStatus?: RunStatus;
  /** ISO time of the next scheduled run, when known */
  nextRun?: string;
  /**
   * What failed is tried again at that ISO time. `quiet`: people hear of the last try, which reports on this one too; not so
   * when the agent is being stopped, since it may not come back.
   */
  retry?: { at: string; quiet: boolean };
}

/** How things stand after a run: all is well only when the sources that it left out are well too. */
export function overall({ status, others = [] }: Pick<RunReport, 'status' | 'others'>): RunStatus {
  return status === 'ok' && others.length > 0 ? 'partial' : status;
}

/** How far a source is. Sent often; a listener must be quick with it. */
export interface Progress {
  source: string;
  /** `dumping app`, `reading files`, `storing` */
  phase: string;
  /** bytes */
  done: number;
  /** bytes, when it can be told */
  total?: number;
  files?: number;
  /** true while the run waits for something else than its own work: `phase` says for what */
  waits?: boolean;
}

/** Identifies a restore, or a rollback of one, from the moment in which it begins to change something. */
export interface RestoreStart {
  id: string;
  project: string;
  verb: 'restore' | 'rollback';
  /** whose data it is */
  source: string;
  /** what it goes to: a source, or a directory */
  target: string;
  /** the snapshot it comes from */
  snapshot: string;
  /** ISO time */
  start: string;
}

/** One thing that a restore brought back. */
export interface RestoredItem {
  /** database, table, volume or directory */
  target: string;
  tables?: number;
  rows?: number;
  files?: number;
  bytes?: number;
  /** what replaced data is kept as, for `lifeboat rollback` */
  kept?: string;
}

/** An object of a dump that the server refused, so that a restore left it out. */
export interface SkippedObject {
  database: string;
  /** as `pg_dump` calls it, in lower case: `fk constraint`, `index`; `rows` for those of a table */
  kind: string;
  /** with its schema; of constraints and the like that of their table, a blank and their own */
  name: string;
  /** what makes it, shortened; absent where it may hold credentials */
  statement?: string;
  /** what the server said */
  message: string;
}

/** The outcome of a restore: notified, printed and stored as `<project>/restores/<id>.json`. */
export interface RestoreReport extends RestoreStart {
  end: string;
  /** `partial`: the data is back, but not everything is well */
  status: RunStatus;
  restored: RestoredItem[];
  /** databases that are as they were, because they could not be restored; absent when there is none */
  failed?: { target: string; error: ErrorInfo }[];
  /** what was left out with `--skip-failed`; absent when there is nothing */
  skipped?: SkippedObject[];
  /** what was done, in order; milliseconds */
  steps: { name: string; durationMs: number }[];
  /** what was looked at afterwards */
  checks: { name: string; ok: boolean; detail?: string }[];
  /** how long the target stood for no usable data, milliseconds */
  withoutDataMs?: number;
  /** id of the pinned snapshot of what was replaced */
  safety?: string;
  /** `lifeboat rollback` undoes it */
  canRollBack: boolean;
  /** of a rollback: the id of the restore that it rolled back */
  of?: string;
  warnings: string[];
  error?: ErrorInfo;
}

export type RunEvent =
  | { type: 'restore-started'; restore: RestoreStart }
  | { type: 'restore-finished'; report: RestoreReport }
  | { type: 'run-started'; run: RunStart }
  | { type: 'source-started'; source: string }
  | { type: 'progress'; progress: Progress }
  | { type: 'source-finished'; result: SourceReport }
  | { type: 'run-finished'; report: RunReport };

/**
 * Hears of runs: a notifier, the progress display, metrics. `handle` may be slow or throw: the dispatcher (see
 * report/dispatch) logs it, bounds it in time and never lets it change a run. The signal aborts when the time is up.
 */
export interface Listener {
  readonly name: string;
  handle(event: RunEvent, signal: AbortSignal): Promise<void> | void;
}
