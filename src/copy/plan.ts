import type { KeepPolicy, Plan } from '../plan/model.ts';
import type { Snapshot } from '../store/repository/repository.ts';
import { newestFirst } from '../store/repository/snapshot-list.ts';

/** Plans the steps that update a copy, and their order. No I/O. */

/** The reason in the tombstone of a snapshot that a copy never had. Such a snapshot is copied if it is wanted later. */
export const LEFT_OUT = 'the copy does not keep it';

/** One step of updating a copy. */
export type CopyStep =
  /** copies a snapshot; `commit` false: the copy has the manifest but may lack objects of it */
  | { type: 'snapshot'; snapshot: Snapshot; commit: boolean }
  /** the copy's retention would not keep the snapshot: only its place in the chain is recorded */
  | { type: 'leave-out'; snapshot: Snapshot }
  /** the destination has removed the snapshot before the copy had it */
  | { type: 'tombstone'; id: string };

/** The state of both sides. */
interface CopyInput {
  /** snapshots of the destination */
  snapshots: readonly Snapshot[];
  /** snapshots that the destination has removed, with their places in the chain if known */
  removed: readonly { id: string; sequence?: number }[];
  /** ids of the manifests that the copy has, whether readable or not */
  there: ReadonlySet<string>;
  /** ids of the snapshots that have a tombstone at the copy: removed there, or left out */
  gone: ReadonlySet<string>;
  /** ids of the snapshots that the copy left out and never had, or whose tombstone is unreadable or forged */
  leftOut: ReadonlySet<string>;
  /** ids of the snapshots that the retention of the copy would keep */
  wanted: ReadonlySet<string>;
}

/** Returns the steps, oldest first. After each step, the chain of manifests at the copy has no gap. */
export function planCopy({ snapshots, removed, there, gone, leftOut, wanted }: CopyInput): CopyStep[] {
  const known = new Set(snapshots.map(({ manifest }) => manifest.id));
  // An unreadable tombstone has no place in the chain, so it explains no gap either.
  const tombstones = removed
    .filter(({ id }) => !known.has(id) && !there.has(id) && !gone.has(id))
    .map(({ id, sequence = 0 }) => ({ sequence, step: { type: 'tombstone', id } satisfies CopyStep }));
  const steps = snapshots.flatMap((snapshot): { sequence: number; step: CopyStep }[] => {
    const { id, sequence } = snapshot.manifest;
    if (there.has(id)) return [{ sequence, step: { type: 'snapshot', snapshot, commit: false } }];
    if (wanted.has(id) && (!gone.has(id) || leftOut.has(id)))
      return [{ sequence, step: { type: 'snapshot', snapshot, commit: true } }];
    return gone.has(id) ? [] : [{ sequence, step: { type: 'leave-out', snapshot } }];
  });
  return [...tombstones, ...steps].sort((a, b) => a.sequence - b.sequence).map(({ step }) => step);
}

/**
 * Merges the snapshots of both sides, newest first. A copy's retention is applied to all snapshots that it could have.
 */
export function together(one: readonly Snapshot[], other: readonly Snapshot[]): Snapshot[] {
  const all = new Map([...other, ...one].map((snapshot) => [snapshot.manifest.id, snapshot]));
  return [...all.values()].sort(newestFirst);
}

/** Returns the plan for a copy. The copy's own retention overrides that of the labels. */
export function planWithKeep(plan: Plan, keep: KeepPolicy | undefined): Plan {
  if (!keep) return plan;
  // A doubtful keep label does not matter either.
  return { ...plan, sources: plan.sources.map(({ keepInDoubt: _, ...source }) => ({ ...source, keep })) };
}

/** Returns since when a copy is behind: the end of the oldest snapshot that it still lacks, as ISO time. */
export function behindSince(lacking: Iterable<CopyStep>): string | undefined {
  for (const step of lacking) if (step.type === 'snapshot' && step.commit) return step.snapshot.manifest.end;
  return undefined;
}
