import type { Log } from '../base/log.ts';
import type { Listing } from '../destinations/listing.ts';
import type { Plan, PlannedSource, Problem } from '../plan/model.ts';
import type { PruneDeps } from '../prune/prune.ts';
import type { CopyReport, Pruned, RunStart } from '../report/events.ts';
import type { Earlier } from '../report/tries.ts';
import type { Trigger } from '../report/trigger.ts';
import type { Journal } from '../run/journal.ts';
import type { Lock } from '../run/process-lock.ts';
import type { HoldDeps } from '../run/release.ts';
import type { RunDeps } from '../run/run-deps.ts';
import type { KnownContentsRef } from '../store/content/stored-tree.ts';
import type { StoredSizes } from '../store/objects/key-set.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import type { PackRef } from '../store/packs/pack-stream.ts';
import type { Lease, takeLease } from '../store/repository/lease.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import type { Captured } from './outcome.ts';

/** Captures and stores the sources of a run. */
export interface Capturer {
  /**
   * Captures and stores a source. Never rejects: a failure is an outcome, and the objects stored for the source are
   * removed, as {@link Capturer.failed} does.
   */
  capture(source: PlannedSource, knownWarnings: readonly string[]): Promise<Captured>;
  /** Lets later sources use what earlier ones have stored. It takes a while, so no service waits. Never rejects. */
  share?(): Promise<void>;
  /**
   * Returns the outcome of a source that was not begun or cannot be committed. Removes the objects stored for it,
   * except in an interrupted run, which removes all objects at its end.
   */
  failed(source: Pick<PlannedSource, 'name' | 'kind'>, error: unknown): Promise<Captured>;
}

/** The dependencies of a backup. */
export interface BackupDeps extends RunDeps {
  /** the destination's name in messages */
  destination: string;
  /** takes the lock that excludes other runs of this project; throws LOCKED when one is under way */
  lock(): Promise<Lock>;
  /** time zone of the schedules */
  zone: string;
  /**
   * removes unfinished files of this project from the destination, or only WAL that a crash has left; only for a caller
   * that holds lock and lease
   */
  sweepTemporary(options: { onlyWal: boolean }): Promise<void>;
  /**
   * Removes what is cached of places that are not in the settings and that no command has read lately. Never rejects.
   * Absent: there is nothing
   */
  forgetPlaces?(): Promise<void>;
  repository(): Promise<Repository>;
  /**
   * takes the lease that excludes other agents at the destination; throws LOCKED while one of them holds it; `objects`:
   * see {@link takeLease}
   */
  lease(repository: Repository, objects?: Listing): Promise<Lease>;
  /** opens the repository for reading; undefined if it cannot be used. Never rejects */
  look(): Promise<Repository | undefined>;
  holdDeps(journal: Journal, log: Log): HoldDeps;
  capturer(run: RunContext): Capturer;
  /** finds out what all kept snapshots hold; see {@link prepareKnown}. Absent: each source knows its last snapshot */
  known?(run: RunContext): Promise<KnownByRun | undefined>;
  nextRun(): Date | undefined;
  /**
   * returns the highest sequence that a snapshot of any copy may have, and the names of the copies for which it is
   * unknown; `end`: the highest sequence at the destination. Never rejects
   */
  highestCopied(
    repository: Repository,
    end: number,
    signal: AbortSignal,
  ): Promise<{ taken: number; unknown: string[] }>;
  /** updates the copies, and prunes complete ones if `prune` is set; see copy.ts. Returns one report for each copy */
  copy(
    plan: Plan,
    repository: Repository,
    request: { lease: Lease; prune?: Pick<PruneDeps, 'clockJump'>; signal: AbortSignal },
  ): Promise<CopyReport[]>;
  /** returns warnings about places that hold or cost more than their locations allow; absent: no place has limits */
  sizeProblems?(): Promise<Problem[]>;
  /** removes what retention does not keep; throws as `prune` in prune.ts */
  prune(
    plan: Plan,
    repository: Repository,
    pruning: Pick<PruneDeps, 'fence' | 'clockJump' | 'signal'>,
  ): Promise<Pruned>;
}

/** One try of a scheduled run. */
export interface Attempt {
  /** results of the earlier tries */
  earlier?: Earlier;
  /** returns when to retry if this try fails; undefined: no retry */
  retryAt(): Date | undefined;
  /** Records the results that the report of the next try includes. */
  hand(on: Earlier): void;
}

export interface BackupRequest {
  trigger: Trigger;
  /** only with the trigger `import`; see the manifest */
  imported?: NonNullable<Manifest['imported']>;
  /** undefined: every source of the plan */
  only?: (source: PlannedSource) => boolean;
  /** selects sources that the run leaves out, although it is a run of all sources: base backups that are not due */
  isLeftOut?: (source: PlannedSource) => boolean;
  /** called under the lock, before the run begins. What it throws ends the call, and nothing was done */
  confirm?: () => Promise<void>;
  /** stores nothing, and brings the copies up to date: the retry of a run whose copies failed */
  copiesOnly?: true;
  /** called once the lock is held and the run begins */
  begun?: () => void;
  signal: AbortSignal;
  /** for a scheduled run, which is retried if it fails; absent: no retry */
  attempt?: Attempt;
  /** see {@link Lock}; copies stop when another command wants the lock */
  whenWanted?: Lock['whenWanted'] | undefined;
}

/** The index of a source that a run has stored and not committed yet. */
export interface SharedIndex {
  /** all packs that it uses */
  packs: readonly PackRef[];
  /** packs whose content the source has stored again, by id */
  renewed: ReadonlySet<string>;
}

/** An index that a run has committed. */
export interface CommittedIndex {
  /** of the stored index */
  sha256: string;
  /** all packs that it uses */
  packs: readonly PackRef[];
  /** true if the table has all contents that the run did not store itself */
  isBasedOnTable: boolean;
}

/** The contents of all kept snapshots, prepared for a run. */
export interface KnownByRun extends Pick<KnownContentsRef, 'table' | 'of' | 'packs'> {
  /** returns whether the table has all contents of a stored index */
  isCovered(index: string): boolean;
  /**
   * how many bytes any snapshot uses at most, by id, of those packs of the last snapshots that are worth storing again;
   * absent: unknown
   */
  use?: ReadonlyMap<string, number>;
  /**
   * the last index of a source as a plain local file, by the hash of the index, or why nobody can read it; absent:
   * cached, or not fetched because of an outage
   */
  indexes: ReadonlyMap<string, string | Error>;
  /** sources whose new packs later ones may use: they stay if the source fails after all */
  shared: ReadonlySet<string>;
  /** Lets later sources use what a source has stored. `file`: its index as a plain local file. Never rejects. */
  share(source: string, file: string, index: SharedIndex): Promise<void>;
  /**
   * Adds the contents of an index that the run has committed.
   *
   * @param file the index as a plain local file
   */
  add(file: string, index: CommittedIndex): Promise<void>;
}

/** The parts of one run. */
export interface RunContext {
  run: RunStart;
  /** returns the end time of the run if it ends now */
  ended(): Date;
  journal: Journal;
  repository: Repository;
  lease: Lease;
  /** newest first */
  snapshots: Snapshot[];
  /** the objects of the project that were there when the run began; absent: unknown */
  stored?: StoredSizes;
  /** contents of all kept snapshots; absent: unknown */
  known?: KnownByRun;
  /** position of its manifest in the chain */
  place: Pick<Manifest, 'sequence' | 'previous'>;
  log: Log;
  signal: AbortSignal;
}
