import { cleanReport } from './clean.ts';
import type { Fall, SourceReport } from './events.ts';
import { formatAgo, oneLine } from './format.ts';

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
export function sourceWarnings({ name, warnings, fell }: SourceReport, now: Date): string[] {
  if (fell === undefined) return warnings;
  const [first, ...rest] = fell.at === undefined ? warnings : [`not accepted yet: ${fallText(fell, now)}`, ...warnings];
  return [...(first === undefined ? [] : [first]), fallAdvice(name, fell), ...rest];
}
