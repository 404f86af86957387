import { LifeboatError } from '../base/errors.ts';
import { plural } from '../report/format.ts';
import type { Inventory } from '../store/wal/inventory.ts';
import { formatLsn, type Segment, segmentName, startOf } from '../store/wal/names.ts';
import type { StoredGap } from '../store/wal/page.ts';

/** A gap, as it is reported and as it is listed. */
export interface Gap {
  error: LifeboatError;
  stored: StoredGap;
}

/** The options of {@link gapBefore}. */
interface GapOptions {
  /** names of complete segments that are about to be stored before it */
  pending: ReadonlySet<string>;
  /** bytes */
  segmentSize: number;
  at: Date;
  /** why WAL may be missing, if that is known */
  why: string | undefined;
}

/** Returns the gap between the stored WAL and a segment that follows, if there is one that no page lists. */
export function gapBefore(
  inventory: Inventory,
  next: Segment,
  { pending, segmentSize, at, why }: GapOptions,
): Gap | undefined {
  const missing = inventory.missingBefore(next, pending);
  if (!missing) return undefined;
  const { after } = missing;
  const from = after && segmentName({ timeline: after.timeline, number: after.number + 1 }, segmentSize);
  const what = after
    ? `${plural(next.number - after.number - 1, 'segment')} of WAL from ${from} on`
    : `the WAL before ${segmentName(next, segmentSize)}`;
  const error = new LifeboatError('WAL_GAP', `${what}: not received${why === undefined ? '' : `: ${why}`}`);
  const to = formatLsn(startOf(next.number, segmentSize));
  return { error, stored: { at: at.toISOString(), timeline: next.timeline, to, why: error.message } };
}
