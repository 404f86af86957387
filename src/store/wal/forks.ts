import { type Coverage, later } from './coverage.ts';
import { formatLsn, parseLsn } from './names.ts';
import type { History } from './timelines.ts';

/** The place at which a timeline and another one parted. Both have the same WAL before it. */
export interface Fork {
  /** the other timeline */
  timeline: number;
  lsn: string;
  /** ISO time by the server's clock: what had committed by then, both have; absent if no such time is known */
  time?: string;
  /** ISO time by the server's clock: by then it wrote on this side of the fork; absent if no such time is known */
  since?: string;
}

/**
 * Returns the place at which two timelines of a server parted.
 *
 * @param known what is known of times: the stored WAL of the first one, and its base backups: they begin at a time, and
 *   end at a position
 */
export function forkOf(
  history: History,
  other: History,
  { coverage, begun }: { coverage: Coverage; begun: readonly { lsn: string; at: string }[] },
): Fork {
  const position = partedAt(history, other);
  const earlier = begun.filter(({ lsn }) => parseLsn(lsn) <= position).map(({ at }) => at);
  const time = earlier.reduce(later, coverage.timeBefore(position, history));
  const after = begun.filter(({ lsn }) => parseLsn(lsn) > position).map(({ at }) => at);
  const [since] = [...coverage.timesAfter(position, history), ...after].sort((a, b) => Date.parse(a) - Date.parse(b));
  return {
    ...{ timeline: other.timeline, lsn: formatLsn(position) },
    ...(time === undefined ? {} : { time }),
    ...(since === undefined ? {} : { since }),
  };
}

/** Returns the end of the WAL that two histories have in common; 0 if they have none. */
function partedAt(a: History, b: History): bigint {
  let common = 0n;
  for (let i = 0; ; i++) {
    const [one, other] = [stepOf(a, i), stepOf(b, i)];
    if (one.timeline !== other.timeline) return common;
    if (one.until === undefined || other.until === undefined || one.until !== other.until)
      return smaller(one.until, other.until) ?? common;
    common = one.until;
  }
}

/** Returns an ancestor of a timeline, or the timeline itself after them, which has no end. */
function stepOf({ timeline, lineage }: History, i: number): { timeline: number; until?: bigint } {
  return lineage[i] ?? { timeline };
}

function smaller(a: bigint | undefined, b: bigint | undefined): bigint | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a < b ? a : b;
}
