import type { WalLog } from '../../store/wal/read-log.ts';
import type { Recoverable } from '../../store/wal/recoverable.ts';
import type { RememberedWal } from '../../store/wal/remembered.ts';
import { isBaseOf, type Window } from '../../store/wal/windows.ts';

/** The windows of each history of a server. No I/O. */

/** A history of a server, and its windows. */
interface HistoryWindows {
  log: WalLog;
  windows: Window[];
}

/** Returns the log of a window. */
export function logOf({ logs }: Pick<Recoverable, 'logs'>, { bases: [base] }: Window): WalLog | undefined {
  return base && logs.find(({ wal }) => isBaseOf(base, wal));
}

/**
 * Groups windows by history, the present one first: that of the server whose window ends last, and of each server the
 * last one, because a clock may have been set back. The same position, transaction or time may be in several: a server
 * that was created again, or went back, has other WAL at the same positions.
 */
export function byHistory(found: Pick<Recoverable, 'logs'>, windows: readonly Window[]): HistoryWindows[] {
  const endOf = ({ log }: HistoryWindows) =>
    Math.max(...windows.filter(({ systemId }) => systemId === log.place.systemId).map(({ to }) => Date.parse(to)));
  return found.logs
    .map((log) => ({ log, windows: windows.filter((one) => logOf(found, one) === log) }))
    .filter((one) => one.windows.length > 0)
    .toReversed()
    .sort((a, b) => endOf(b) - endOf(a));
}

/** Returns the last window of a history: that of the timeline on which the server writes, if the agent knows it. */
export function latestIn({ log, windows }: HistoryWindows, remembered: RememberedWal | undefined): Window | undefined {
  const sorted = windows.toSorted((a, b) => Date.parse(a.to) - Date.parse(b.to));
  const present = presentTimeline(log, remembered);
  return sorted.findLast(({ timeline }) => timeline === present) ?? sorted.at(-1);
}

/**
 * Returns a timeline on which the server may write now, although the last window is of another one: the agent says so,
 * or nothing shows when it was begun.
 */
export function unseenTimeline(
  log: WalLog,
  { timeline }: Pick<Window, 'timeline'>,
  remembered: RememberedWal | undefined,
): number | undefined {
  const present = presentTimeline(log, remembered);
  if (present !== undefined) return present === timeline ? undefined : present;
  const { histories, segments, partials } = log.wal;
  const dated = new Set(
    [...segments, ...partials].filter(({ reached }) => reached !== undefined).map(({ name }) => timelineOf(name)),
  );
  const known = [...histories.keys(), ...[...segments, ...partials].map(({ name }) => timelineOf(name))];
  return known.filter((one) => one > timeline && !dated.has(one)).sort((a, b) => b - a)[0];
}

function presentTimeline({ place, wal }: WalLog, remembered: RememberedWal | undefined): number | undefined {
  return place.systemId === remembered?.systemId && wal.until === undefined ? remembered.timeline : undefined;
}

function timelineOf(segment: string): number {
  return Number.parseInt(segment.slice(0, 8), 16);
}
