import { type Ancestor, formatLsn, parseLsn, parseSegmentName, segmentAt, startOf } from './names.ts';

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
  /** by the server's clock when the backup had ended, ISO time */
  stopTime: string;
}

/** The stored WAL of one server. Only objects that are stored whole are listed. */
export interface StoredWal {
  systemId: string;
  segmentSize: number;
  /** in any order; several entries with one name are the same segment */
  segments: readonly { name: string; reached?: string | undefined }[];
  /** a segment of which only the beginning is stored; `to`: offset of its end, bytes */
  open?: { name: string; to: number; reached?: string | undefined } | undefined;
  /** the ancestors of each timeline with a history file, by timeline */
  histories: ReadonlyMap<number, readonly Ancestor[]>;
  gaps: readonly { at: string; to: string; why: string }[];
  /** the server had written nothing after `lsn` at that time, ISO time */
  confirmed?: { lsn: string; at: string } | undefined;
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
}

/** A span of time between two windows to which the server cannot be recovered. */
export interface Hole {
  from: string;
  to: string;
  why: string;
}

/** How far the WAL reaches without a break. */
interface Reach {
  end: bigint;
  /** ISO time, see `reached` in page.ts; absent if no time is known */
  time?: string | undefined;
}

/** Finds segments by timeline and number. */
class Coverage {
  private readonly wal: StoredWal;
  private readonly complete = new Map<string, string | undefined>();

  constructor(wal: StoredWal) {
    this.wal = wal;
    for (const { name, reached } of wal.segments) {
      const at = parseSegmentName(name, wal.segmentSize);
      if (at) this.complete.set(`${at.timeline}/${at.number}`, reached);
    }
  }

  /** Returns the timelines that contain WAL or have a history file. */
  timelines(): number[] {
    const found = [...this.complete.keys()].map((key) => Number(key.split('/')[0]));
    const open = this.openSegment();
    return [...new Set([...found, ...this.wal.histories.keys(), ...(open ? [open.timeline] : [])])];
  }

  /**
   * Follows the WAL of a timeline and its ancestors from a position.
   *
   * @param lineage the ancestors of the timeline, oldest first
   */
  from(start: bigint, timeline: number, lineage: readonly Ancestor[]): Reach {
    const { segmentSize } = this.wal;
    const reach: Reach = { end: start };
    for (let number = segmentAt(start, segmentSize); ; number++) {
      const of = timelineAt(number, timeline, lineage, segmentSize);
      const key = `${of}/${number}`;
      if (!this.complete.has(key)) {
        this.addOpen(reach, of, number);
        return reach;
      }
      reach.end = startOf(number + 1, segmentSize);
      reach.time = later(reach.time, this.complete.get(key));
    }
  }

  private addOpen(reach: Reach, timeline: number, number: number): void {
    const open = this.openSegment();
    if (!open || open.timeline !== timeline || open.number !== number) return;
    const end = startOf(number, this.wal.segmentSize) + BigInt(open.to);
    if (end < reach.end) return;
    reach.end = end;
    reach.time = later(reach.time, open.reached);
  }

  private openSegment() {
    const { open, segmentSize } = this.wal;
    const at = open && parseSegmentName(open.name, segmentSize);
    return open && at ? { ...at, ...open } : undefined;
  }
}

/** Returns the timeline whose segment of that number belongs to the history of `timeline`. */
function timelineAt(number: number, timeline: number, lineage: readonly Ancestor[], segmentSize: number): number {
  // The segment in which a timeline ends exists on the next timeline too, with the same bytes up to the fork.
  const ancestor = lineage.find(({ until }) => number < segmentAt(until, segmentSize));
  return ancestor?.timeline ?? timeline;
}

function later(a: string | undefined, b: string | undefined): string | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return Date.parse(a) >= Date.parse(b) ? a : b;
}

/** Returns whether a base backup belongs to the history of a timeline. */
function isAncestor(base: Base, timeline: number, lineage: readonly Ancestor[]): boolean {
  if (base.timeline === timeline) return true;
  return lineage.some((one) => one.timeline === base.timeline && parseLsn(base.stopLsn) <= one.until);
}

/**
 * Returns the windows of one server, oldest first. A base backup opens a window when it ended; the window ends where
 * the stored WAL after it ends. Windows of one timeline that overlap are one window.
 */
export function windowsOf(wal: StoredWal, bases: readonly Base[]): Window[] {
  const coverage = new Coverage(wal);
  const own = bases.filter(({ systemId }) => systemId === wal.systemId);
  const timelines = [...new Set([...coverage.timelines(), ...own.map(({ timeline }) => timeline)])];
  const windows = timelines.flatMap((timeline) => {
    const lineage = wal.histories.get(timeline) ?? [];
    const found = own
      .filter((base) => isAncestor(base, timeline, lineage))
      .flatMap((base) => windowOf(wal, coverage, base, { timeline, lineage }));
    return merge(found);
  });
  return withoutInner(windows).sort((a, b) => Date.parse(a.from) - Date.parse(b.from) || a.timeline - b.timeline);
}

function windowOf(
  wal: StoredWal,
  coverage: Coverage,
  base: Base,
  { timeline, lineage }: { timeline: number; lineage: readonly Ancestor[] },
): Window[] {
  const reach = coverage.from(parseLsn(base.startLsn), timeline, lineage);
  // Without the WAL that was written during the backup, its files contradict each other.
  if (reach.end < parseLsn(base.stopLsn)) return [];
  const { confirmed } = wal;
  const isWhole = confirmed !== undefined && reach.end >= parseLsn(confirmed.lsn);
  const to = later(later(base.stopTime, reach.time), isWhole ? confirmed.at : undefined) as string;
  const span = { from: base.stopTime, to, toLsn: formatLsn(reach.end) };
  return [{ systemId: wal.systemId, timeline, ...span, bases: [base] }];
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

/** Removes windows that a window of a later timeline contains: the part of a timeline before its fork. */
function withoutInner(windows: Window[]): Window[] {
  return windows.filter(
    (one) =>
      !windows.some(
        (other) =>
          other !== one &&
          other.timeline > one.timeline &&
          parseLsn(other.toLsn) >= parseLsn(one.toLsn) &&
          one.bases.every((base) => other.bases.some(({ snapshot }) => snapshot === base.snapshot)) &&
          Date.parse(other.to) >= Date.parse(one.to),
      ),
  );
}

/** Returns the holes between windows, oldest first, with the recorded reasons. */
export function holesOf(windows: readonly Window[], gaps: StoredWal['gaps']): Hole[] {
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
interface RecoveryStart {
  base: Base;
  window: Window;
}

/**
 * Finds where a recovery to a time starts: the newest base backup before it, in the window of the latest timeline that
 * holds the time. Returns undefined if no window holds it.
 */
export function startOfRecovery(windows: readonly Window[], time: Date): RecoveryStart | undefined {
  const at = time.getTime();
  const holding = windows.filter(({ from, to }) => Date.parse(from) <= at && at <= Date.parse(to));
  const window = holding.sort((a, b) => b.timeline - a.timeline || Date.parse(b.from) - Date.parse(a.from))[0];
  const base = window?.bases.filter(({ stopTime }) => Date.parse(stopTime) <= at).at(-1);
  return window && base && { base, window };
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
