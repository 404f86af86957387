import type { Log } from '../base/log.ts';
import type { KeepPolicy, Plan } from '../plan/model.ts';
import type { Pruned } from '../report/events.ts';
import type { State } from '../run/state.ts';
import type { Lease } from '../store/repository/lease.ts';
import type { Pin } from '../store/repository/pins.ts';
import type { Repository, SnapshotList } from '../store/repository/repository.ts';

/** The place of a copy. */
export interface CopyPlace {
  /** the location without its options */
  name: string;
  /** absent: the copy has the retention of the destination */
  keep?: KeepPolicy;
  /** pins in the copy stay, even if the destination has removed them */
  keepsPins?: true;
  /**
   * Opens the repository there as a copy of `main`. With `create`, an empty place becomes a copy.
   *
   * @throws DEST_FOREIGN if the place holds another repository
   */
  open(main: Repository, options: { create: boolean; signal?: AbortSignal }): Promise<Repository>;
  /**
   * Returns whether nothing is stored there yet. Rejects if the place does not respond or its mount is not suitable.
   */
  isEmpty(signal: AbortSignal): Promise<boolean>;
  lease(repository: Repository): Promise<Lease>;
  /** the record of objects there that `check` found damaged; absent: there is none */
  suspects?: Pick<State, 'damaged' | 'saveDamaged'>;
  /** Removes unfinished objects of the project. The caller must hold the lease. */
  sweep(signal?: AbortSignal): Promise<void>;
}

/** Dependencies of copying. */
export interface CopyDeps {
  copies: readonly CopyPlace[];
  /** the repository to copy; nothing is removed there meanwhile */
  main(): Promise<Repository>;
  /** the lease of the destination; a place that has the same lease is the destination itself. Absent: not compared */
  lease?: Pick<Lease, 'token'>;
  plan: Plan;
  /** LIFEBOAT_KEEP */
  keep: KeepPolicy;
  state: Pick<State, 'accepted' | 'results' | 'copies' | 'saveCopies' | 'damaged' | 'saveDamaged' | 'abandoned'>;
  zone: string;
  now(): Date;
  log: Log;
  stallTimeoutMs: number;
  /** prunes a complete copy; absent: nothing is removed */
  prune?(place: CopyPlace, repository: Repository, fence: Lease['fence'], signal: AbortSignal): Promise<Pruned>;
  /** called with the bytes that a copy has received, and the bytes it will receive */
  progress?(copy: string, done: number, total: number): void;
  signal: AbortSignal;
}

/** The state of the destination, read once for all copies. */
export interface Side extends SnapshotList {
  repository: Repository;
  pins: ReadonlyMap<string, Pin>;
  /** ids of the snapshots that it has removed */
  removed: readonly string[];
}
