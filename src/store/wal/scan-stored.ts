import { hasCode } from '../../base/errors.ts';
import type { ObjectRef } from '../objects/manifest.ts';
import { unseal } from '../seal/seal.ts';
import { segmentAt, segmentName, startOf } from './names.ts';
import { readWalLogs, type WalLog, type WalRepository } from './read-log.ts';
import { PAGE, RecordScanner, type WalRecord } from './records.ts';
import { timelineAt } from './timelines.ts';

/** The stored WAL of a server, along the history of one timeline. */
export interface StoredHistoryOf {
  repository: WalRepository;
  /** read before; if an object of it is gone, it is read again */
  log: Pick<WalLog, 'place' | 'wal' | 'segments' | 'partials'>;
  timeline: number;
  signal: AbortSignal;
}

/** The segments before a position in which the beginning of one record is looked for. */
const LONGEST = 8;

/**
 * Finds the record inside of which a position is. Returns the position of its first byte; undefined if the position is
 * between two records, or if the stored WAL does not tell.
 *
 * @throws OBJECT_MISSING, OBJECT_DAMAGED, KEY_MISSING, KEY_WRONG, DEST_*
 */
export async function recordAround(stored: StoredHistoryOf, position: bigint): Promise<bigint | undefined> {
  const { segmentSize } = stored.log.wal;
  const last = segmentAt(position - 1n, segmentSize);
  for (let first = last; first >= 0 && first > last - LONGEST; first--) {
    const begin = startOf(first, segmentSize);
    const scanner = new RecordScanner(begin, () => undefined);
    let left = Number(position - begin);
    for (let number = first; number <= last; number++) {
      for await (const chunk of contentOf(stored, number)) {
        scanner.add(chunk.subarray(0, left));
        left -= Math.min(left, chunk.length);
      }
    }
    const found = scanner.end();
    if (!scanner.isInside) return found;
  }
  return undefined;
}

/** A span of the WAL: `from` counts, `to` does not. */
export interface Span {
  from: bigint;
  to: bigint;
}

/** The record that was found. */
interface Match<T> {
  found?: { at: bigint; what: T };
  /** number of records that were read: none can be read of a program that is not known */
  records: number;
}

/**
 * Finds the last record in a span that matches. Reads the segments from the last one on backwards. Throws like
 * {@link recordAround}.
 *
 * @param match returns undefined for a record that does not match
 * @param onRead called with the position back to which no record matches
 */
export async function findLast<T>(
  stored: StoredHistoryOf,
  { from, to }: Span,
  match: (record: WalRecord) => T | undefined,
  onRead?: (position: bigint) => void,
): Promise<Match<T>> {
  const { segmentSize } = stored.log.wal;
  const result: Match<T> = { records: 0 };
  let next: Buffer = Buffer.alloc(0);
  for (let number = segmentAt(to - 1n, segmentSize); number >= segmentAt(from, segmentSize); number--) {
    const scanner = new RecordScanner(startOf(number, segmentSize), (record) => {
      result.records++;
      const what = record.at >= from && record.at < to ? match(record) : undefined;
      if (what !== undefined) result.found = { at: record.at, what };
    });
    let first: Buffer = Buffer.alloc(0);
    for await (const chunk of contentOf(stored, number)) {
      if (first.length < PAGE) first = Buffer.concat([first, chunk.subarray(0, PAGE - first.length)]);
      scanner.add(chunk);
    }
    // The last record of the segment may end in the next one.
    scanner.add(next);
    scanner.end();
    if (result.found) return result;
    onRead?.(startOf(number, segmentSize));
    next = first;
  }
  return result;
}

/** The most segments in which {@link findFirst} looks. */
const MAX_AHEAD = 16;

/** Finds the first record in a span that matches, like {@link findLast}. Gives up after some segments. */
export async function findFirst<T>(
  stored: StoredHistoryOf,
  { from, to }: Span,
  match: (record: WalRecord) => T | undefined,
): Promise<Match<T> & { isAll: boolean }> {
  const { segmentSize } = stored.log.wal;
  const result: Match<T> = { records: 0 };
  const first = segmentAt(from, segmentSize);
  const last = segmentAt(to - 1n, segmentSize);
  const scanner = new RecordScanner(startOf(first, segmentSize), (record) => {
    result.records++;
    if (result.found || record.at < from || record.at >= to) return;
    const what = match(record);
    if (what !== undefined) result.found = { at: record.at, what };
  });
  for (let number = first; number <= last && number < first + MAX_AHEAD && !result.found; number++) {
    for await (const chunk of contentOf(stored, number)) scanner.add(chunk);
  }
  scanner.end();
  return { ...result, isAll: last < first + MAX_AHEAD };
}

/** The receiver may store more of a segment, and remove its former parts, each time that its log is read. */
const ATTEMPTS = 3;

/** Reads what is stored of a segment. If objects of it were replaced since the log was read, reads the log again. */
async function* contentOf(stored: StoredHistoryOf, number: number): AsyncGenerator<Buffer> {
  const { repository, timeline, signal } = stored;
  let { log } = stored;
  let sent = 0;
  for (let attempt = 1; ; attempt++) {
    try {
      let at = 0;
      for (const { key } of objectsOf({ log, timeline }, number)) {
        const sealed = await repository.destination.get(key, { signal });
        for await (const chunk of unseal(sealed, key, repository.keys)) {
          const news = (chunk as Buffer).subarray(Math.max(0, sent - at));
          at += (chunk as Buffer).length;
          sent = Math.max(sent, at);
          if (news.length > 0) yield news;
        }
      }
      return;
    } catch (error) {
      if (!hasCode(error, 'OBJECT_MISSING') || attempt === ATTEMPTS) throw error;
      const logs = await readWalLogs(repository, log.place.source, signal);
      const { systemId, since } = log.wal;
      const now = logs.find(({ wal }) => wal.systemId === systemId && wal.since === since);
      // Without the segment, the WAL would seem to have ended before it.
      if (!now || objectsOf({ log: now, timeline }, number).length === 0) throw error;
      log = now;
    }
  }
}

/** Returns the objects that hold a segment, in order; none if it is not stored. */
function objectsOf({ log, timeline }: Pick<StoredHistoryOf, 'log' | 'timeline'>, number: number): readonly ObjectRef[] {
  const { segmentSize, histories } = log.wal;
  const history = { timeline, lineage: histories.get(timeline) ?? [] };
  const name = segmentName({ timeline: timelineAt(number, history, segmentSize), number }, segmentSize);
  const whole = log.segments.get(name);
  return whole ? [whole] : (log.partials.get(name)?.parts ?? []);
}
