import { Coverage, later, type StoredWal } from './coverage.ts';
import { type Fork, forkOf } from './forks.ts';
import { formatLsn, parseLsn } from './names.ts';
import type { History } from './timelines.ts';

/** Computes to which times a server can be recovered, from what is stored. No I/O. */

/** A base backup: the state from which a recovery starts. */
export interface Base {
  /** the snapshot that holds it */
  snapshot: string;
  systemId: string;
  timeline: number;
  /** recovery reads the WAL from `startLsn`; the data is consistent from `stopLsn` on */
  startLsn: string;
  stopLsn: string;
  /** by the server's clock when the backup began, ISO time */
  startTime?: string;
  /** by the server's clock when the backup had ended, ISO time */
  stopTime: string;
  /** number of the first page of the history that the server wrote meanwhile; absent in older records */
  era?: number | undefined;
  /** id of the image of the server, and its name in a registry, if they are known */
  image?: string;
  imageDigest?: string;
}

/** A span of time to any second of which the server can be recovered. */
export interface Window {
  systemId: string;
  timeline: number;
  /** ISO times, by the server's clock */
  from: string;
  to: string;
  /** the end of the stored WAL */
  toLsn: string;
  /** the base backups in it, oldest first */
  bases: Base[];
  /** where this timeline and each other one that has a window parted */
  forks: Fork[];
}

/** A span of time between two windows to which the server cannot be recovered. */
export interface Hole {
  from: string;
  to: string;
  why: string;
}

/** Returns whether a base backup is one of the server that wrote some WAL, and of the same data. */
export function isBaseOf(
  { systemId, stopTime, era }: Pick<Base, 'systemId' | 'stopTime' | 'era'>,
  wal: Pick<StoredWal, 'systemId' | 'since' | 'until' | 'era' | 'nextEra'>,
): boolean {
  // A clock may have been set back, and page numbers never are.
  if (era !== undefined)
    return systemId === wal.systemId && era >= (wal.era ?? 1) && era < (wal.nextEra ?? Number.POSITIVE_INFINITY);
  const at = Date.parse(stopTime);
  const isLate = wal.since === undefined || at >= Date.parse(wal.since);
  return systemId === wal.systemId && isLate && (wal.until === undefined || at < Date.parse(wal.until));
}

/** Returns whether a base backup belongs to a history. */
function isAncestor(base: Base, history: History): boolean {
  return contains(history, base.timeline, parseLsn(base.stopLsn));
}

/** Returns whether a position of a timeline belongs to a history. */
function contains({ timeline, lineage }: History, of: number, lsn: bigint): boolean {
  return of === timeline || lineage.some((one) => one.timeline === of && lsn <= one.until);
}

/**
 * Returns the windows of one server, oldest first. A base backup opens a window when it ended; the window ends where
 * the stored WAL after it ends. Windows of one timeline that overlap are one window.
 */
export function windowsOf(wal: StoredWal, bases: readonly Base[]): Window[] {
  const coverage = new Coverage(wal);
  const own = bases.filter((base) => isBaseOf(base, wal));
  const timelines = [...new Set([...coverage.timelines(), ...own.map(({ timeline }) => timeline)])];
  const historyOf = (timeline: number) => ({ timeline, lineage: wal.histories.get(timeline) ?? [] });
  const windows = timelines.flatMap((timeline) => {
    const history = historyOf(timeline);
    const found = own
      .filter((base) => isAncestor(base, history))
      .flatMap((base) => windowOf(wal, coverage, base, history));
    return merge(found);
  });
  const outer = withoutInner(windows, historyOf);
  const present = [...new Set(outer.map(({ timeline }) => timeline))].sort((a, b) => a - b);
  const forksOf = (timeline: number) => {
    const history = historyOf(timeline);
    // Everything that had committed when a base backup began is before it. The server writes while it lasts.
    const begun = own.flatMap((base) =>
      base.startTime !== undefined && isAncestor(base, history) ? [{ lsn: base.stopLsn, at: base.startTime }] : [],
    );
    return present
      .filter((other) => other !== timeline)
      .map((other) => forkOf(history, historyOf(other), { coverage, begun }));
  };
  const forks = new Map(present.map((timeline) => [timeline, forksOf(timeline)]));
  return outer
    .map((one) => ({ ...one, forks: forks.get(one.timeline) ?? [] }))
    .sort((a, b) => Date.parse(a.from) - Date.parse(b.from) || a.timeline - b.timeline);
}

function windowOf(wal: StoredWal, coverage: Coverage, base: Base, history: History): Window[] {
  const { timeline } = history;
  const reach = coverage.from(parseLsn(base.startLsn), history);
  // Without the WAL that was written during the backup, its files contradict each other.
  if (reach.end < parseLsn(base.stopLsn)) return [];
  // A break before the fork: only the ancestor has this window.
  if (base.timeline !== timeline && reach.end <= beginOf(history)) return [];
  const { confirmed } = wal;
  const isWhole = confirmed?.timeline === timeline && reach.end >= parseLsn(confirmed.lsn);
  const to = later(later(base.stopTime, reach.time), isWhole ? confirmed.at : undefined) as string;
  const span = { from: base.stopTime, to, toLsn: formatLsn(reach.end) };
  return [{ systemId: wal.systemId, timeline, ...span, bases: [base], forks: [] }];
}

/** Returns the position at which a timeline left its last ancestor. */
function beginOf({ lineage }: History): bigint {
  return lineage.at(-1)?.until ?? 0n;
}

function merge(windows: Window[]): Window[] {
  const sorted = windows.sort((a, b) => Date.parse(a.from) - Date.parse(b.from));
  const merged: Window[] = [];
  for (const one of sorted) {
    const last = merged.at(-1);
    // The WAL of the earlier one has no break up to the start of the later one.
    if (last && parseLsn(last.toLsn) >= parseLsn(one.bases[0]?.stopLsn ?? one.toLsn)) {
      last.to = later(last.to, one.to) as string;
      last.toLsn = one.toLsn;
      last.bases.push(...one.bases);
    } else merged.push({ ...one, bases: [...one.bases] });
  }
  return merged;
}

/**
 * Removes windows that a window of a later timeline contains: the part of a timeline before its fork. What a timeline
 * has after its fork is in no other one.
 */
function withoutInner(windows: Window[], historyOf: (timeline: number) => History): Window[] {
  return windows.filter(
    (one) =>
      !windows.some(
        (other) =>
          other.timeline > one.timeline &&
          contains(historyOf(other.timeline), one.timeline, parseLsn(one.toLsn)) &&
          parseLsn(other.toLsn) >= parseLsn(one.toLsn) &&
          one.bases.every((base) => other.bases.some(({ snapshot }) => snapshot === base.snapshot)),
      ),
  );
}

/** Returns the holes between windows, oldest first, with the recorded reasons. */
export function holesOf(windows: readonly Pick<Window, 'from' | 'to'>[], gaps: StoredWal['gaps']): Hole[] {
  const sorted = windows.toSorted((a, b) => Date.parse(a.from) - Date.parse(b.from));
  const holes: Hole[] = [];
  let to: string | undefined;
  for (const window of sorted) {
    if (to !== undefined && Date.parse(window.from) > Date.parse(to)) {
      const [start, end] = [Date.parse(to), Date.parse(window.from)];
      const within = gaps.find(({ at }) => Date.parse(at) >= start - 1000 && Date.parse(at) <= end + 1000);
      holes.push({ from: to, to: window.from, why: within?.why ?? 'WAL of this time is not stored' });
    }
    to = later(to, window.to);
  }
  return holes;
}

/** A recovery to a time: the base to start from and the timeline to follow. */
export interface RecoveryStart {
  base: Base;
  window: Window;
}

/**
 * Finds where a recovery to a time starts: the newest base backup before it, in the window of the latest timeline that
 * holds the time. Returns undefined if no window holds it.
 */
export function startOfRecovery(windows: readonly Window[], time: Date): RecoveryStart | undefined {
  const at = time.getTime();
  const holding = windows.filter((one) => holds(one, time));
  const window = holding.sort((a, b) => b.timeline - a.timeline || Date.parse(b.from) - Date.parse(a.from))[0];
  const base = window?.bases.filter(({ stopTime }) => Date.parse(stopTime) <= at).at(-1);
  return window && base && { base, window };
}

/** Finds where a recovery to a position starts, like {@link startOfRecovery}. */
export function startAtPosition(windows: readonly Window[], lsn: bigint): RecoveryStart | undefined {
  for (const window of windows.toSorted((a, b) => b.timeline - a.timeline)) {
    const base = window.bases.filter(({ stopLsn }) => parseLsn(stopLsn) <= lsn).at(-1);
    if (base && lsn <= parseLsn(window.toLsn)) return { base, window };
  }
  return undefined;
}

/**
 * Returns the windows of other timelines that have another state at a point than a window has: the point is after the
 * place at which they parted, or may be. For a time, the other timeline has it, or the server may not yet have written
 * on that of the window. A later timeline counts although its WAL does not reach the position yet.
 */
export function rivalsOf(window: Window, windows: readonly Window[], point: Date | bigint): Window[] {
  return windows.filter((other) => {
    if (other.systemId !== window.systemId || other.timeline === window.timeline) return false;
    const fork = window.forks.find(({ timeline }) => timeline === other.timeline);
    if (typeof point === 'bigint') {
      const isThere = other.timeline > window.timeline || point <= parseLsn(other.toLsn);
      return isThere && point > parseLsn(fork?.lsn ?? '0/0');
    }
    const at = point.getTime();
    // Before the server is known to have written on this side of the fork, it may have been on any other side. The WAL
    // of a server that was idle then ends earlier.
    const isThere = holds(other, point) || fork?.since === undefined || at < Date.parse(fork.since);
    // The point is cut to milliseconds, and may be a little later.
    return isThere && (fork?.time === undefined || at >= Date.parse(fork.time));
  });
}

/** Returns whether a time is in a window. */
export function holds({ from, to }: Pick<Window, 'from' | 'to'>, time: Date): boolean {
  const at = time.getTime();
  return Date.parse(from) <= at && at <= Date.parse(to);
}

/** Returns the nearest times before and after `time` to which a recovery is possible, ISO times. */
export function nearestTimes(windows: readonly Window[], time: Date): { before?: string; after?: string } {
  const at = time.getTime();
  const before = windows.map(({ to }) => to).filter((to) => Date.parse(to) < at);
  const after = windows.map(({ from }) => from).filter((from) => Date.parse(from) > at);
  const byTime = (a: string, b: string) => Date.parse(a) - Date.parse(b);
  const [last, first] = [before.sort(byTime).at(-1), after.sort(byTime)[0]];
  return { ...(last === undefined ? {} : { before: last }), ...(first === undefined ? {} : { after: first }) };
}
