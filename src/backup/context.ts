import type { Log } from '../base/log.ts';
import type { Plan, PlannedSource } from '../plan/model.ts';
import type { Dispatcher } from '../report/dispatch.ts';
import type { CopyReport, Pruned, RunStart, Trigger } from '../report/events.ts';
import type { Earlier } from '../report/tries.ts';
import type { Journal } from '../run/journal.ts';
import type { Lock } from '../run/process-lock.ts';
import type { HoldDeps } from '../run/release.ts';
import type { State } from '../run/state.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import type { Lease } from '../store/repository/lease.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import type { Capturer } from './capture.ts';

/** The dependencies of a run; wiring.ts makes them. */
export interface BackupDeps {
  project: string;
  agentVersion: string;
  /** how the destination is named to people */
  destination: string;
  /** id of the agent's own container */
  agentId: string;
  /** keeps every other run of this project away until released; LOCKED when one is under way */
  lock(): Promise<Lock>;
  /** directory of the journals */
  journals: string;
  /** directory of runs inside the spool */
  spool: string;
  state: State;
  dispatcher: Dispatcher;
  log: Log;
  now(): Date;
  /** time zone of the schedules */
  zone: string;
  /** undoes what dead runs left, and reports them as failed; never rejects */
  recover(): Promise<void>;
  /** removes a directory of a run in the spool; see `clearDirectory` in spool.ts. Never rejects */
  clear(directory: string, runId: string): Promise<void>;
  /** removes unfinished files of this project from the destination; nobody else writes there now */
  sweepTemporary(): Promise<void>;
  plan(): Promise<Plan>;
  repository(): Promise<Repository>;
  /** keeps other agents away from the project at the destination; LOCKED while one works there */
  lease(repository: Repository): Promise<Lease>;
  holdDeps(journal: Journal, log: Log): HoldDeps;
  capturer(run: RunContext): Capturer;
  nextRun(): Date | undefined;
  /** brings the copies up to date, and prunes those that are if asked to; see copy.ts. None: there is no copy */
  copy(
    plan: Plan,
    repository: Repository,
    request: { lease: Lease; prune: boolean; signal: AbortSignal },
  ): Promise<CopyReport[]>;
  /** removes what need not be kept any more; see prune.ts for what it rejects with */
  prune(plan: Plan, repository: Repository, fence: Lease['fence'], signal: AbortSignal): Promise<Pruned>;
}

/** One try of a scheduled run. */
export interface Attempt {
  /** what the tries before it came to */
  earlier?: Earlier;
  /** when the run is made again if it fails now; undefined: it is not */
  retryAt(): Date | undefined;
  /** Notes what the report of the next try is to cover too. */
  hand(on: Earlier): void;
}

export interface BackupRequest {
  trigger: Trigger;
  /** with the trigger `import`: see the manifest */
  imported?: NonNullable<Manifest['imported']>;
  /** undefined: every source of the plan */
  only?: (source: PlannedSource) => boolean;
  /** called once the lock is held: from here on there is a run */
  begun?: () => void;
  signal: AbortSignal;
  /** of a scheduled run that is made again if it fails; absent: it is not */
  attempt?: Attempt;
  /** see {@link Lock}: copies make room */
  whenWanted?: Lock['whenWanted'] | undefined;
}

/** What belongs to one run. */
export interface RunContext {
  run: RunStart;
  journal: Journal;
  repository: Repository;
  lease: Lease;
  /** newest first */
  snapshots: Snapshot[];
  /** where its manifest goes in the chain */
  place: Pick<Manifest, 'sequence' | 'previous'>;
  log: Log;
  signal: AbortSignal;
}
