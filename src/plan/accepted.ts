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

/**
 * Returns whether the acceptance of a source ends its failure, because a user has accepted the cause since. `at`: ISO
 * time of the failure.
 */
export function endsFailure(
  accepted: Accepted[string] | undefined,
  { at, error }: { at: string; error?: { code: ErrorCode } },
): boolean {
  const loss = error && ENDED[error.code];
  return loss !== undefined && coversLoss(accepted, loss) && (acceptedTime(accepted) ?? '') >= at;
}

/** Returns the ISO time of an acceptance, or undefined if there is none or its place in the chain is unknown. */
export function acceptedTime(accepted: string | AcceptedAt | undefined): string | undefined {
  return typeof accepted === 'object' ? accepted.at : accepted;
}
