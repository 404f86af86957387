import { LifeboatError } from '../../base/errors.ts';
import { currentLog } from '../../store/wal/needed.ts';
import type { WalLog } from '../../store/wal/read-log.ts';
import type { RememberedWal } from '../../store/wal/remembered.ts';
import type { Window } from '../../store/wal/windows.ts';
import { unseenTimeline } from './by-history.ts';

/** The log and the window that hold the latest point. */
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
  const now = whyUnseen({ log, window, logs }, remembered);
  if (now === undefined) return;
  const { timeline, to } = window;
  const what = `${source} ${now}, of which no window is known yet`;
  throw new LifeboatError('PITR_TIME', `${what}: the latest stored time, ${to}, is from before that`, {
    hint: `Nothing was changed. Try again in a minute, or add --timeline ${timeline} for the end of that window.`,
  });
}

/** Returns what the server writes now, in the words of a message; undefined if it may be what the window shows. */
function whyUnseen({ log, window, logs }: Found, remembered: RememberedWal | undefined): string | undefined {
  const { until } = log.wal;
  if (until !== undefined) return `has begun another history at ${until}`;
  const replacement = remembered?.replacement;
  const present = (replacement ?? remembered)?.systemId;
  // WAL of another repository may contradict what is stored here.
  const isOther = replacement !== undefined && replacement.era !== (log.wal.era ?? 1);
  if (isOther || (present !== undefined && present !== log.place.systemId) || log !== currentLog(logs))
    return 'has other data now';
  const unseen = unseenTimeline(log, window, remembered);
  return unseen === undefined ? undefined : `is on timeline ${unseen}`;
}
