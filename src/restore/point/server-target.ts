import { formatLsn, parseLsn } from '../../store/wal/names.ts';
import { recordAround, type StoredHistoryOf } from '../../store/wal/scan-stored.ts';
import type { Start } from './find-start.ts';
import type { Target } from './target.ts';

/** The target that a server gets, which has positions of whole records only. */
interface ServerTarget {
  /** absent: the end of the WAL */
  target?: Target;
  /** the end of the WAL does not count as the target */
  mustReach: boolean;
}

/**
 * Returns the target for a server. A position inside a record stands for the records before it: the server would
 * replay that record, and with it a transaction that had not committed yet. Of several restore points with one name,
 * the server would take the first one.
 *
 * @param start where the recovery starts
 * @throws OBJECT_*, KEY_*, DEST_*
 */
export async function serverTarget(
  stored: Omit<StoredHistoryOf, 'timeline'>,
  { window, marker }: Pick<Start, 'marker'> & { window: Pick<Start['window'], 'timeline'> },
  target: Target,
): Promise<ServerTarget> {
  if (target === 'latest') return { mustReach: false };
  if ('lsn' in target) {
    const position = parseLsn(target.lsn);
    const around = await recordAround({ ...stored, timeline: window.timeline }, position);
    return { target: { lsn: formatLsn(around ?? position) }, mustReach: false };
  }
  // The server stops before the first record at this position or after it.
  if ('name' in target && marker) return { target: { lsn: formatLsn(marker.at + 1n) }, mustReach: false };
  return { target, mustReach: 'xid' in target || 'name' in target };
}
