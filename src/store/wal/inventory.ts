import { later, type StoredWal } from './coverage.ts';
import { formatLsn, parseSegmentName, type Segment, segmentAt, segmentName, startOf } from './names.ts';
import type { StoredGap } from './page.ts';
import { type Ancestor, timelineAt } from './timelines.ts';

/** WAL that is missing before a segment. */
interface Missing {
  /** the last segment before the gap; absent if nothing of that history is stored */
  after?: Segment;
}

/**
 * The content of a log, for the writer that adds to it: which segments are stored, where the WAL of a timeline ends,
 * and where it has gaps. No I/O.
 */
export class Inventory {
  private readonly segmentSize: number;
  private readonly names = new Set<string>();
  private readonly begun = new Set<string>();
  private readonly histories: Map<number, readonly Ancestor[]>;
  private readonly gaps: Set<string>;
  /** by timeline, the end of its stored WAL */
  private readonly ends = new Map<number, bigint>();
  /** by timeline, the latest time that its stored WAL reaches */
  private readonly times = new Map<number, string>();

  constructor(wal: StoredWal) {
    this.segmentSize = wal.segmentSize;
    this.histories = new Map(wal.histories);
    this.gaps = new Set(wal.gaps.map(gapId));
    for (const one of wal.segments) this.addSegment(one);
    for (const one of wal.partials) this.addPartial(one);
  }

  /** Returns whether no segment is stored. */
  get isEmpty(): boolean {
    return this.ends.size === 0;
  }

  /** Returns whether a history file is stored. */
  get hasHistories(): boolean {
    return this.histories.size > 0;
  }

  /** Returns whether a complete segment is stored. */
  has(name: string): boolean {
    return this.names.has(name);
  }

  /** Returns the ancestors of a timeline whose history file is stored. */
  historyOf(timeline: number): readonly Ancestor[] | undefined {
    return this.histories.get(timeline);
  }

  /** Returns the end of the stored WAL of a timeline; undefined if there is none. */
  endOf(timeline: number): bigint | undefined {
    return this.ends.get(timeline);
  }

  /** Returns the latest time that the stored WAL of a timeline reaches, see `reached` in page.ts. */
  reachedOf(timeline: number): string | undefined {
    return this.times.get(timeline);
  }

  addSegment({ name, reached }: StoredWal['segments'][number]): void {
    this.names.add(name);
    this.extend(name, this.segmentSize, reached);
  }

  /** @param partial `to`: offset of its end, bytes */
  addPartial({ name, to, reached }: StoredWal['partials'][number]): void {
    this.begun.add(name);
    this.extend(name, to, reached);
  }

  addHistory(timeline: number, ancestors: readonly Ancestor[]): void {
    this.histories.set(timeline, ancestors);
  }

  addGap(gap: StoredGap): void {
    this.gaps.add(gapId(gap));
  }

  /**
   * Returns the WAL that is missing before a segment which is about to be stored. Returns undefined if the segment
   * before it is stored, if nothing is stored yet, or if the gap is listed already.
   *
   * @param pending names of complete segments that are about to be stored with it
   */
  missingBefore({ timeline, number }: Segment, pending: ReadonlySet<string>): Missing | undefined {
    const { segmentSize } = this;
    if (this.isEmpty && pending.size === 0) return undefined;
    // A gap is listed with the first bytes that are stored after it.
    if (this.begun.has(segmentName({ timeline, number }, segmentSize))) return undefined;
    if (this.gaps.has(gapId({ timeline, to: formatLsn(startOf(number, segmentSize)) }))) return undefined;
    const history = { timeline, lineage: this.histories.get(timeline) ?? [] };
    const nameAt = (at: number) =>
      segmentName({ timeline: timelineAt(at, history, segmentSize), number: at }, segmentSize);
    const isStored = (name: string) => this.names.has(name) || pending.has(name);
    if (number > 0 && isStored(nameAt(number - 1))) return undefined;
    // The segment in which a timeline begins has the bytes of its parent before the fork.
    const parent = history.lineage.at(-1);
    if (parent && segmentAt(parent.until, segmentSize) === number) {
      const twin = segmentName({ timeline: parent.timeline, number }, segmentSize);
      if (isStored(twin) || this.begun.has(twin)) return undefined;
    }
    let after: Segment | undefined;
    for (const name of [...this.names, ...pending]) {
      const at = parseSegmentName(name, segmentSize);
      if (!at || at.number >= number || at.number <= (after?.number ?? -1)) continue;
      if (nameAt(at.number) === name) after = at;
    }
    return after ? { after } : {};
  }

  private extend(name: string, to: number, reached: string | undefined): void {
    const at = parseSegmentName(name, this.segmentSize);
    if (!at) return;
    const end = startOf(at.number, this.segmentSize) + BigInt(to);
    if (end > (this.ends.get(at.timeline) ?? -1n)) this.ends.set(at.timeline, end);
    const time = later(this.times.get(at.timeline), reached);
    if (time !== undefined) this.times.set(at.timeline, time);
  }
}

function gapId({ timeline, to }: Pick<StoredGap, 'timeline' | 'to'>): string {
  return `${timeline}/${to}`;
}
