import type { ErrorCode } from '../base/errors.ts';

/** A loss that a person can accept: the source is gone, empty, or smaller than before (a drop). */
export type Loss = 'gone' | 'empty' | 'fall';

/** The record of a person's `lifeboat accept`: a source may be gone, empty, or smaller than before. */
interface AcceptedAt {
  /** ISO time of the command, by the clock of that moment */
  at: string;
  /** sequence of the newest snapshot at that time */
  sequence: number;
  /** the losses at that time; the record does not accept other kinds. A record without this list accepts every kind */
  losses?: readonly Loss[];
}

/** Acceptances by source name. Older versions recorded the time alone, as a string. */
export type Accepted = Readonly<Record<string, string | AcceptedAt>>;

/** Returns whether the acceptance is about losses of this kind. */
export function coversLoss(accepted: string | AcceptedAt | undefined, loss: Loss): boolean {
  if (accepted === undefined) return false;
  return typeof accepted === 'string' || (accepted.losses?.includes(loss) ?? true);
}

/**
 * Returns whether the acceptance came after the snapshot. Compares places in the chain where they are known, because a
 * clock may be wrong.
 */
export function isAccepted(
  accepted: string | AcceptedAt | undefined,
  { sequence, end }: { sequence: number; end: string },
): boolean {
  if (accepted === undefined) return false;
  return typeof accepted === 'string' ? end <= accepted : sequence <= accepted.sequence;
}

/** Failures that an acceptance ends, with the loss that a user accepts then. */
const ENDED: Partial<Record<ErrorCode, Loss>> = { SOURCE_VANISHED: 'gone', TREE_EMPTY: 'empty' };

/** When a run failed. */
interface FailedAt {
  /** ISO time */
  at: string;
  /** sequence at the end of the chain when the run began; absent in records of an earlier version */
  after?: number | undefined;
}

/** Returns whether the acceptance of a source ends its failure, because a user has accepted the cause since. */
export function endsFailure(
  accepted: Accepted[string] | undefined,
  { error, ...failed }: FailedAt & { error?: { code: ErrorCode } },
): boolean {
  const loss = error && ENDED[error.code];
  return loss !== undefined && isAcceptedSince(accepted, loss, failed);
}

/**
 * Returns whether a user has accepted the loss since a run failed. Compares places in the chain where they are known,
 * because a clock may be wrong. If no snapshot was made between the acceptance and the failure, the acceptance came
 * later: an earlier one would have kept the run from failing.
 */
export function isAcceptedSince(accepted: Accepted[string] | undefined, loss: Loss, { at, after }: FailedAt): boolean {
  if (accepted === undefined || !coversLoss(accepted, loss)) return false;
  if (typeof accepted === 'string') return accepted >= at;
  return after === undefined ? accepted.at >= at : accepted.sequence >= after;
}
