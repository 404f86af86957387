import { cleanReport } from './clean.ts';
import { formatAgo, oneLine } from './format.ts';

/** A loss of data in a source: it is much smaller than before, lacks a database, or is on another server. */
export interface Fall {
  /** the snapshot from before the loss, which retention keeps until a user accepts the loss */
  since: string;
  /** another snapshot that is kept because of an earlier loss, if any */
  earlier?: string;
  /** what was lost, one text each; at most {@link MAX_FALL_TEXTS} */
  why: string[];
  /** ISO time of the first snapshot with the loss; absent: this run has found it */
  at?: string;
}

/** The number of texts that say what a source has lost. */
export const MAX_FALL_TEXTS = 3;

/** Returns what a source has lost, and when: `rows fell by 60 % since …: from 10 to 4 (2 days ago)`. Redacted. */
export function fallText({ why, at }: Fall, now: Date): string {
  const what = why.length === 0 ? 'data was lost' : cleanReport(why).map(oneLine).join('; ');
  return at === undefined ? what : `${what} (${formatAgo(new Date(at), now)})`;
}

/** Returns the commands of which one is right: for a loss by mistake, and for a loss on purpose. Redacted. */
export function fallAdvice(source: string, { since, earlier }: Fall): string {
  const name = oneLine(cleanReport({ name: source }).name);
  const older =
    earlier === undefined ? '' : ` or, from before an earlier loss, \`lifeboat restore ${earlier} ${name}\``;
  return `if this was a mistake, run \`lifeboat restore ${since} ${name}\`${older}; if it was on purpose, run \`lifeboat accept ${name}\`: until then, Lifeboat keeps that snapshot`;
}

/**
 * Returns the warnings of a source. An earlier loss that nobody has accepted comes first, and the commands follow the
 * first loss, because a list may be cut.
 */
export function sourceWarnings(
  { name, warnings, fell }: { name: string; warnings: string[]; fell?: Fall },
  now: Date,
): string[] {
  if (fell === undefined) return warnings;
  const [first, ...rest] = fell.at === undefined ? warnings : [`not accepted yet: ${fallText(fell, now)}`, ...warnings];
  return [...(first === undefined ? [] : [first]), fallAdvice(name, fell), ...rest];
}
