import { LifeboatError } from '../../base/errors.ts';

/**
 * Positions and file names of the write-ahead log (WAL). A position (LSN) is a number of bytes since the beginning of
 * the log; Postgres writes it as two hexadecimal halves (Postgres docs, 8.20). A segment is a file of a fixed size,
 * named after its timeline and its place in the log (Postgres source, xlog_internal.h).
 */

/** A segment of the log: a timeline, and the place of the segment, which counts from 0. */
export interface Segment {
  timeline: number;
  number: number;
}

const LSN = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i;

/** Parses an LSN such as `0/2000028`. @throws OBJECT_DAMAGED */
export function parseLsn(text: string): bigint {
  const [, high, low] = LSN.exec(text) ?? [];
  if (high === undefined || low === undefined)
    throw new LifeboatError('OBJECT_DAMAGED', `${JSON.stringify(text.slice(0, 40))} is not a position in the WAL`);
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}

/** Returns an LSN as Postgres writes it: the inverse of {@link parseLsn}. */
export function formatLsn(lsn: bigint): string {
  const hex = (half: bigint) => half.toString(16).toUpperCase();
  return `${hex(lsn >> 32n)}/${hex(lsn & 0xffff_ffffn)}`;
}

/** Returns the number of the segment that holds the byte at `lsn`. */
export function segmentAt(lsn: bigint, segmentSize: number): number {
  return Number(lsn / BigInt(segmentSize));
}

/** Returns the position of a segment's first byte. */
export function startOf(number: number, segmentSize: number): bigint {
  return BigInt(number) * BigInt(segmentSize);
}

const hex8 = (value: number) => value.toString(16).toUpperCase().padStart(8, '0');

/** Returns the file name of a segment: `000000010000000000000002`. */
export function segmentName({ timeline, number }: Segment, segmentSize: number): string {
  const perFile = perLogFile(segmentSize);
  return hex8(timeline) + hex8(Math.floor(number / perFile)) + hex8(number % perFile);
}

/** Parses the file name of a segment: the inverse of {@link segmentName}. Returns undefined for any other name. */
export function parseSegmentName(name: string, segmentSize: number): Segment | undefined {
  if (!/^[0-9A-F]{24}$/.test(name)) return undefined;
  const [timeline, high, low] = [0, 8, 16].map((at) => Number.parseInt(name.slice(at, at + 8), 16)) as [
    number,
    number,
    number,
  ];
  const perFile = perLogFile(segmentSize);
  return timeline === 0 || low >= perFile ? undefined : { timeline, number: high * perFile + low };
}

function perLogFile(segmentSize: number): number {
  return 0x1_0000_0000 / segmentSize;
}

/** Returns whether a size is one that Postgres allows for segments: a power of two from 1 MiB to 1 GiB. */
export function isSegmentSize(size: number): boolean {
  return Number.isInteger(Math.log2(size)) && size >= 2 ** 20 && size <= 2 ** 30;
}

const PAGE = 8192n;
const SHORT_HEADER = 24n;
const LONG_HEADER = 40n;

/**
 * Returns the end of the records before a position at which the server would insert next. After the end of a page, that
 * position is behind the header of the next page, which nobody writes before the next record (Postgres source,
 * xlog_internal.h, SizeOfXLogLongPHD and SizeOfXLogShortPHD).
 */
export function endOfRecords(insert: bigint, segmentSize: number): bigint {
  if (insert % BigInt(segmentSize) === LONG_HEADER) return insert - LONG_HEADER;
  return insert % PAGE === SHORT_HEADER ? insert - SHORT_HEADER : insert;
}
