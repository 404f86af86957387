/** What a person said is as it should be: that a source is gone, empty, or smaller than it was. */
interface AcceptedAt {
  /** ISO time, by the clock of that moment */
  at: string;
  /** the end of the chain of snapshots then */
  sequence: number;
}

/** By the name of the source. A text is the time alone. */
export type Accepted = Readonly<Record<string, string | AcceptedAt>>;

/** Whether that was said when the snapshot was there: by the chain where it is known, since a clock may have been wrong. */
export function isAccepted(
  accepted: string | AcceptedAt | undefined,
  { sequence, end }: { sequence: number; end: string },
): boolean {
  if (accepted === undefined) return false;
  return typeof accepted === 'string' ? end <= accepted : sequence <= accepted.sequence;
}

/** When that was said, ISO time; undefined when it was not. */
export function acceptedTime(accepted: string | AcceptedAt | undefined): string | undefined {
  return typeof accepted === 'object' ? accepted.at : accepted;
}
