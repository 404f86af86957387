import { LifeboatError } from '../../base/errors.ts';
import { currentLog } from '../../store/wal/needed.ts';
import type { WalLog } from '../../store/wal/read-log.ts';
import type { RememberedWal } from '../../store/wal/remembered.ts';
import type { Window } from '../../store/wal/windows.ts';
import { unseenTimeline } from './by-history.ts';

/** What the latest point was found in. */
interface Found {
  log: WalLog;
  window: Window;
  /** all of the source */
  logs: readonly WalLog[];
}

/**
 * Refuses the latest point while the server writes WAL that no window shows yet: another history of it, another server,
 * or another timeline. The last window then ends with what a recovery has replaced.
 *
 * @throws PITR_TIME
 */
export function refuseUnseen(
  { log, window, logs }: Found,
  source: string,
  remembered: RememberedWal | undefined,
): void {
  const { timeline, to } = window;
  const isOther = isReplaced(log, logs, remembered);
  const unseen = unseenTimeline(log, window, remembered);
  if (!isOther && unseen === undefined) return;
  const what = isOther
    ? `${source} has other data now, of which no base backup is known yet`
    : `${source} is on timeline ${unseen}, of which no window is known yet`;
  const former = isOther ? ' of the former data' : '';
  throw new LifeboatError('PITR_TIME', `${what}: the latest stored time, ${to}, is on timeline ${timeline}${former}`, {
    hint: `Nothing was changed. Try again in a minute, or add --timeline ${timeline} for the end of that timeline.`,
  });
}

/** Returns whether the server has other data than that of a log: of another server, or of another history. */
function isReplaced(log: WalLog, logs: readonly WalLog[], remembered: RememberedWal | undefined): boolean {
  const replacement = remembered?.replacement;
  const present = (replacement ?? remembered)?.systemId;
  if (present !== undefined && present !== log.place.systemId) return true;
  if (replacement && replacement.era !== (log.wal.era ?? 1)) return true;
  return log !== currentLog(logs);
}
