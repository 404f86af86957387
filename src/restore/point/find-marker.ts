import { formatLsn, parseLsn } from '../../store/wal/names.ts';
import type { WalRecord } from '../../store/wal/records.ts';
import { findLast, type Span, type StoredHistoryOf } from '../../store/wal/scan-stored.ts';
import type { Base, RecoveryStart, Window } from '../../store/wal/windows.ts';
import type { Marker } from './target.ts';

/** A record that a target names, and where a recovery to it starts. */
export interface FoundMarker extends RecoveryStart {
  /** position of its first byte */
  at: bigint;
  /** when it was written, by the server's clock */
  time: Date;
}

/**
 * Finds the newest record that a target names in the stored WAL of a server. Reads from the end of each window
 * backwards, the window with the latest end first. Reads WAL that several windows have in common once.
 *
 * @param say called at intervals with what was read, for people
 * @returns the records: several only for a transaction, whose number each timeline may have used for another one. None
 *   if the WAL does not have it. `unreadable` for WAL of a program that is not known
 * @throws OBJECT_MISSING, OBJECT_DAMAGED, KEY_MISSING, KEY_WRONG, DEST_*
 */
export async function findMarker(
  stored: Omit<StoredHistoryOf, 'timeline'>,
  windows: readonly Window[],
  marker: Marker,
  say: (line: string) => void = () => undefined,
): Promise<FoundMarker[] | 'unreadable'> {
  const newest = windows.toSorted((a, b) => Date.parse(b.to) - Date.parse(a.to) || b.timeline - a.timeline);
  const read: { timeline: number; span: Span }[] = [];
  const all: FoundMarker[] = [];
  let records = 0;
  let said = performance.now();
  for (const window of newest) {
    const { timeline } = window;
    const [oldest] = window.bases;
    if (!oldest) continue;
    const whole = { from: parseLsn(oldest.stopLsn), to: parseLsn(window.toLsn) };
    const onRead = (position: bigint) => {
      if (performance.now() - said < SAY_MS) return;
      said = performance.now();
      say(`  it is not in the WAL of timeline ${timeline} after ${formatLsn(position)}; reading on before that`);
    };
    for (const span of unread(window, whole, read)) {
      const match = (record: WalRecord) => timeOf(record, marker);
      const result = await findLast({ ...stored, timeline }, span, match, onRead);
      records += result.records;
      if (!result.found) continue;
      const { at, what: time } = result.found;
      const base = window.bases.filter(({ stopLsn }) => parseLsn(stopLsn) <= at).at(-1) as Base;
      // No timeline uses a number twice, so neither do its ancestors.
      if (!all.some((one) => one.window.timeline === timeline)) all.push({ window, base, at, time });
      if ('name' in marker) return all;
      break;
    }
    read.push({ timeline, span: whole });
  }
  return records === 0 ? 'unreadable' : all;
}

/** Milliseconds between two lines about a search. */
const SAY_MS = 15_000;

/** Returns the parts of a span that are not in the WAL that other windows have had read, the last one first. */
function unread({ forks }: Window, whole: Span, read: readonly { timeline: number; span: Span }[]): Span[] {
  let left = [whole];
  for (const { timeline, span } of read) {
    const fork = forks.find((one) => one.timeline === timeline);
    if (!fork) continue;
    const parted = parseLsn(fork.lsn);
    const to = parted < span.to ? parted : span.to;
    if (to <= span.from) continue;
    left = left.flatMap((one) => [
      ...(one.to > to ? [{ from: one.from > to ? one.from : to, to: one.to }] : []),
      ...(one.from < span.from ? [{ from: one.from, to: one.to < span.from ? one.to : span.from }] : []),
    ]);
  }
  return left;
}

/** Resource managers (Postgres source, rmgrlist.h) and types of records (pg_control.h, xact.h). */
const XLOG = 0;
const XACT = 1;
const RESTORE_POINT = 0x70;
const TYPE = 0x70;
const COMMIT = 0x00;
const COMMIT_PREPARED = 0x30;
const ENDED = [COMMIT, 0x20];
const ENDED_PREPARED = [COMMIT_PREPARED, 0x40];

/** Returns the time of a record that a marker names; undefined for any other record. */
function timeOf(record: WalRecord, marker: Marker): Date | undefined {
  const { manager, info } = record;
  if ('name' in marker) {
    if (manager !== XLOG || (info & 0xf0) !== RESTORE_POINT) return undefined;
    const data = mainData(record.body);
    const name = data?.subarray(8, 72);
    const end = name?.indexOf(0) ?? -1;
    return data && name?.subarray(0, end < 0 ? undefined : end).toString('utf8') === marker.name
      ? timeIn(data)
      : undefined;
  }
  const ended = endOfTransaction(record);
  if (!ended) return undefined;
  const xid = Number(BigInt(marker.xid) & 0xffff_ffffn);
  if (ENDED.includes(info & TYPE)) return record.xid === xid ? ended.time : undefined;
  return preparedId(record, ended.data) === xid ? ended.time : undefined;
}

const HAS_INFO = 0x80;
/** The parts of a commit or abort record before the id of a prepared transaction (Postgres source, xact.h). */
const HAS_DATABASE = 1 << 0;
const HAS_PREPARED = 1 << 4;
const SUBTRANSACTIONS = { flag: 1 << 1, size: 4 };
const RELATIONS = { flag: 1 << 2, size: 12 };
const DROPPED_STATISTICS = { flag: 1 << 8, size: 12 };
const INVALIDATIONS = { flag: 1 << 3, size: 16 };
/** Since Postgres 18, an item of statistics has an id of 8 bytes. */
const LONG_STATISTICS = 0xd117;

/** Returns the id of the prepared transaction that a record ends; undefined if it has none, or so much before it. */
function preparedId({ info, magic }: WalRecord, data: Buffer): number | undefined {
  if ((info & HAS_INFO) === 0 || data.length < 12) return undefined;
  const flags = data.readUInt32LE(8);
  if ((flags & HAS_PREPARED) === 0) return undefined;
  const statistics = magic < LONG_STATISTICS ? DROPPED_STATISTICS : { ...DROPPED_STATISTICS, size: 16 };
  let at = 12 + (flags & HAS_DATABASE ? 8 : 0);
  for (const { flag, size } of [SUBTRANSACTIONS, RELATIONS, statistics, INVALIDATIONS]) {
    if ((flags & flag) === 0) continue;
    if (at + 4 > data.length) return undefined;
    at += 4 + size * data.readUInt32LE(at);
  }
  return at + 4 <= data.length ? data.readUInt32LE(at) : undefined;
}

/** Returns the time and the data of a record that commits or aborts a transaction; undefined for any other record. */
export function endOfTransaction({ manager, info, body }: WalRecord): { time: Date; data: Buffer } | undefined {
  if (manager !== XACT || ![...ENDED, ...ENDED_PREPARED].includes(info & TYPE)) return undefined;
  const data = mainData(body);
  return data && { time: timeIn(data), data };
}

/** Returns whether a record that ends a transaction commits it. */
export function isCommit({ info }: WalRecord): boolean {
  return (info & TYPE) === COMMIT || (info & TYPE) === COMMIT_PREPARED;
}

/** Returns the main data of a record that changes no blocks (Postgres source, xlogrecord.h). */
function mainData(body: Buffer): Buffer | undefined {
  for (let at = 0; at < body.length; ) {
    const id = body[at];
    if (id === 255) return body.subarray(at + 2);
    if (id === 254) return body.subarray(at + 5);
    // The origin of a replicated transaction, and the id of its top level.
    if (id === 253) at += 3;
    else if (id === 252) at += 5;
    else return undefined;
  }
  return undefined;
}

/** Returns the time at the beginning of a record's data: microseconds since 2000. */
function timeIn(data: Buffer): Date {
  return new Date(Date.UTC(2000, 0, 1) + Number(data.readBigInt64LE(0) / 1000n));
}
