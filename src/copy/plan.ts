import type { KeepPolicy, Plan } from '../plan/model.ts';
import type { Snapshot } from '../store/repository/repository.ts';
import { newestFirst } from '../store/repository/snapshot-list.ts';

/** What a copy is to get, and in which order. No I/O. */

/** The tombstone of a snapshot that a copy never had says so: it may come after all when it is wanted. */
export const LEFT_OUT = 'the copy does not keep it';

/** One step towards a copy that is equal. */
export type CopyStep =
  /** it lacks the snapshot; `commit` false: it has its manifest, and may lack objects of it */
  | { type: 'snapshot'; snapshot: Snapshot; commit: boolean }
  /** its retention would not keep the snapshot: only its place in the chain is noted */
  | { type: 'leave-out'; snapshot: Snapshot }
  /** the snapshot is gone from the destination before the copy had it */
  | { type: 'tombstone'; id: string };

/** What there is on both sides. */
interface CopyInput {
  /** snapshots of the destination */
  snapshots: readonly Snapshot[];
  /** those that the destination has removed, with their places in the chain where they are known */
  removed: readonly { id: string; sequence?: number }[];
  /** ids of the manifests that the copy has, whether or not they can be read */
  there: ReadonlySet<string>;
  /** ids of those that the copy has removed, or been told to leave out */
  gone: ReadonlySet<string>;
  /** ids of those that it left out and never had */
  leftOut: ReadonlySet<string>;
  /** ids that the retention of the copy would keep */
  wanted: ReadonlySet<string>;
}

/** The steps, oldest first: after each of them the chain of manifests at the copy has no gap. */
export function planCopy({ snapshots, removed, there, gone, leftOut, wanted }: CopyInput): CopyStep[] {
  const known = new Set(snapshots.map(({ manifest }) => manifest.id));
  // One that nobody can read has no place: it explains no gap either.
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

/** The snapshots of both sides, each once, newest first: what a copy comes to have is judged by all that it could have. */
export function together(one: readonly Snapshot[], other: readonly Snapshot[]): Snapshot[] {
  const all = new Map([...other, ...one].map((snapshot) => [snapshot.manifest.id, snapshot]));
  return [...all.values()].sort(newestFirst);
}

/** The plan as it counts at a copy with a retention of its own, which goes before the labels. */
export function planWithKeep(plan: Plan, keep: KeepPolicy | undefined): Plan {
  if (!keep) return plan;
  // What a label may mean does not count there either.
  return { ...plan, sources: plan.sources.map(({ keepInDoubt: _, ...source }) => ({ ...source, keep })) };
}

/** The end of the oldest snapshot among what is still to be done: since then the copy is behind. */
export function behindSince(lacking: Iterable<CopyStep>): string | undefined {
  for (const step of lacking) if (step.type === 'snapshot' && step.commit) return step.snapshot.manifest.end;
  return undefined;
}
