import { parseSegmentName, segmentAt, startOf } from './names.ts';
import { type Ancestor, type History, timelineAt } from './timelines.ts';

/** The server had written nothing after `lsn` on its timeline at that time, an ISO time by its clock. */
export interface Confirmed {
  timeline: number;
  lsn: string;
  at: string;
}

/** The stored WAL of one server. Only objects that are stored whole are listed. */
export interface StoredWal {
  systemId: string;
  /** the server wrote it from one time to another, ISO times; absent: from the first time on, until now */
  since?: string | undefined;
  until?: string | undefined;
  /** number of the first page of this history, and of the next one; absent: the first, and the last history */
  era?: number | undefined;
  nextEra?: number | undefined;
  segmentSize: number;
  /** in any order; several entries with one name are the same segment */
  segments: readonly { name: string; reached?: string | undefined }[];
  /** segments of which only the beginning is stored, such as the open one; `to`: offset of its end, bytes */
  partials: readonly { name: string; to: number; reached?: string | undefined }[];
  /** the ancestors of each timeline with a history file, by timeline */
  histories: ReadonlyMap<number, readonly Ancestor[]>;
  gaps: readonly { at: string; timeline: number; to: string; why: string }[];
  confirmed?: Confirmed | undefined;
}

/** The reach of the WAL without a break. */
interface Reach {
  end: bigint;
  /** ISO time, see `reached` in page.ts; absent if no time is known */
  time?: string | undefined;
}

/** Finds stored segments by timeline and number. */
export class Coverage {
  private readonly segmentSize: number;
  private readonly complete = new Map<string, string | undefined>();
  private readonly partial = new Map<string, StoredWal['partials'][number]>();
  private readonly all = new Set<number>();

  constructor({ segmentSize, segments, partials, histories }: StoredWal) {
    this.segmentSize = segmentSize;
    for (const one of segments) this.index(one.name, (key) => this.complete.set(key, one.reached));
    for (const one of partials) {
      // A receiver that starts over receives a segment again, so the longest of several beginnings counts.
      this.index(one.name, (key) => {
        if (one.to > (this.partial.get(key)?.to ?? 0)) this.partial.set(key, one);
      });
    }
    for (const timeline of histories.keys()) this.all.add(timeline);
  }

  /** Returns the timelines that contain WAL or have a history file. */
  timelines(): number[] {
    return [...this.all];
  }

  /** Follows the WAL of a history from a position. */
  from(start: bigint, history: History): Reach {
    const reach: Reach = { end: start };
    for (let number = segmentAt(start, this.segmentSize); ; number++) {
      const key = `${timelineAt(number, history, this.segmentSize)}/${number}`;
      if (!this.complete.has(key)) {
        this.addPartial(reach, key, number);
        return reach;
      }
      reach.end = startOf(number + 1, this.segmentSize);
      reach.time = later(reach.time, this.complete.get(key));
    }
  }

  /** Returns the latest known time before a position of a history; undefined if none is known. */
  timeBefore(position: bigint, history: History): string | undefined {
    return this.dated(history)
      .filter(({ end }) => end <= position)
      .map(({ reached }) => reached)
      .reduce(later, undefined as string | undefined);
  }

  /** Returns the times that the segments behind a position of a history reach. */
  timesAfter(position: bigint, history: History): string[] {
    return this.dated(history)
      .filter(({ end }) => end > position)
      .map(({ reached }) => reached);
  }

  /** Returns the segments of a history that reach a known time. */
  private dated(history: History): { end: bigint; reached: string }[] {
    const size = this.segmentSize;
    const all: { end: bigint; reached: string }[] = [];
    const add = (key: string, to: number, reached: string | undefined) => {
      const [timeline, number] = key.split('/').map(Number) as [number, number];
      if (reached === undefined || timelineAt(number, history, size) !== timeline) return;
      all.push({ end: startOf(number, size) + BigInt(to), reached });
    };
    for (const [key, reached] of this.complete) add(key, size, reached);
    for (const [key, { to, reached }] of this.partial) add(key, to, reached);
    return all;
  }

  private index(name: string, add: (key: string) => void): void {
    const at = parseSegmentName(name, this.segmentSize);
    if (!at) return;
    add(`${at.timeline}/${at.number}`);
    this.all.add(at.timeline);
  }

  private addPartial(reach: Reach, key: string, number: number): void {
    const partial = this.partial.get(key);
    const end = startOf(number, this.segmentSize) + BigInt(partial?.to ?? 0);
    if (!partial || end < reach.end) return;
    reach.end = end;
    reach.time = later(reach.time, partial.reached);
  }
}

/** Returns the later one of two ISO times. */
export function later(a: string | undefined, b: string | undefined): string | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return Date.parse(a) >= Date.parse(b) ? a : b;
}
