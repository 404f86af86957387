/**
 * Finds records in segments of the write-ahead log, as servers on little-endian processors write them. A segment has
 * pages. A record that does not fit continues after the header of the next page (Postgres source, xlog_internal.h,
 * xlogrecord.h).
 */

/** The size of a page, bytes. Servers with pages of another size are rare, and nothing is known about theirs. */
export const PAGE = 8192;

const CONTINUES = 0x0001;
const LONG = 0x0002;
const OVERWRITES = 0x0008;
const SHORT_HEADER = 24;
const LONG_HEADER = 40;
const RECORD_HEADER = 24;
/** Offset of the resource manager in a record. */
const MANAGER_AT = 17;
/** The bytes of a record that are kept: enough for the end of a transaction that changed thousands of tables. */
const HEAD = 64 * 1024;

interface PageHeader {
  /** the format of the page, which each major version of the server changes */
  magic: number;
  /** the size of the header, bytes */
  size: number;
  /** the position of the page in the log */
  address: bigint;
  /** bytes of a record of an earlier page that this page and later ones hold; undefined: there is none */
  remaining?: number;
  /** only in the first page of a segment */
  systemId?: string;
}

/** Returns the header of a page; undefined for zeros, and for a page of a program that is not known. */
function headerOf(page: Buffer): PageHeader | undefined {
  if (page.length < SHORT_HEADER || page[1] !== 0xd1) return undefined;
  const flags = page.readUInt16LE(2);
  const address = page.readBigUInt64LE(8);
  const header: PageHeader = { magic: page.readUInt16LE(0), size: SHORT_HEADER, address };
  if (flags & CONTINUES) header.remaining = page.readUInt32LE(16);
  if ((flags & LONG) === 0) return header;
  if (page.length < LONG_HEADER || page.readUInt32LE(36) !== PAGE) return undefined;
  return { ...header, size: LONG_HEADER, systemId: String(page.readBigUInt64LE(24)) };
}

const align = (size: number) => Math.ceil(size / 8) * 8;

/**
 * Returns whether the first bytes of a segment are those of another one. A segment of an unknown program is not.
 *
 * @param start 40 bytes or more
 * @param expected position of the segment's first byte, and the server that wrote it
 */
export function isOtherSegment(start: Buffer, expected: { address: bigint; systemId: string }): boolean {
  const header = headerOf(start);
  if (!header) return false;
  return header.address !== expected.address || (header.systemId ?? expected.systemId) !== expected.systemId;
}

/**
 * Returns the position of the record before the first one that begins in a segment, as that one names it (xl_prev).
 * Undefined if the bytes do not hold it, or if a crash ended the record before (XLP_FIRST_IS_OVERWRITE_CONTRECORD).
 *
 * @param start the first bytes of the segment, at most a page
 */
export function linkOf(start: Buffer): bigint | undefined {
  const header = headerOf(start);
  if (!header || start.readUInt16LE(2) & OVERWRITES) return undefined;
  const at = header.size + align(header.remaining ?? 0);
  if (at + 16 > start.length || start.readUInt32LE(at) < RECORD_HEADER) return undefined;
  return start.readBigUInt64LE(at + 8);
}

/** A record of the WAL. */
export interface WalRecord {
  /** position of its first byte */
  at: bigint;
  xid: number;
  /** the resource manager that wrote it, see rmgrlist.h */
  manager: number;
  info: number;
  /** that of the page on which it begins: later versions of the server have larger numbers */
  magic: number;
  /** what follows its header: the first bytes of it */
  body: Buffer;
}

/** A record of which not every byte was read. */
interface Unfinished {
  at: bigint;
  magic: number;
  length: number;
  read: number;
  head: Buffer[];
}

/** Finds the records in consecutive WAL. */
export class RecordScanner {
  /** what was read begins inside a record, and ends inside the same one */
  isInside = false;
  /** the position of the last record of which every byte was there; undefined if none began in what was read */
  last: bigint | undefined;
  private readonly onRecord: (record: WalRecord) => void;
  private readonly manager: number | undefined;
  private unfinished: Unfinished | undefined;
  private waiting: Buffer = Buffer.alloc(0);
  private position: bigint;
  private isFirst = true;

  /**
   * @param position of the first byte that is added, at the beginning of a page
   * @param onRecord called with each record of which the first bytes were added
   * @param manager only its records matter: those of others cost little, and some are left out; absent: all
   */
  constructor(position: bigint, onRecord: (record: WalRecord) => void, manager?: number) {
    this.position = position;
    this.onRecord = onRecord;
    this.manager = manager;
  }

  /** Adds WAL that follows what was added before. */
  add(wal: Buffer): void {
    const all = this.waiting.length === 0 ? wal : Buffer.concat([this.waiting, wal]);
    const whole = all.length - (all.length % PAGE);
    for (let at = 0; at < whole; at += PAGE) this.addPage(all.subarray(at, at + PAGE));
    this.waiting = all.subarray(whole);
  }

  /**
   * Ends the WAL: nothing more is added.
   *
   * @returns the position of the record in which it ends; undefined if it ends between two, or if nobody knows
   */
  end(): bigint | undefined {
    if (this.waiting.length >= SHORT_HEADER) this.addPage(this.waiting);
    return this.unfinished?.at;
  }

  /** @param page shorter than a page at the end of the WAL */
  private addPage(page: Buffer): void {
    const { position } = this;
    this.position += BigInt(page.length);
    const begun = this.unfinished;
    this.unfinished = undefined;
    const wasInside = this.isInside || this.isFirst;
    this.isInside = false;
    this.isFirst = false;
    const header = headerOf(page);
    // Zeros, such as those after pg_switch_wal().
    if (header?.address !== position) return;
    let at = header.size;
    if (header.remaining !== undefined) {
      const end = at + header.remaining;
      if (begun) this.read(begun, page.subarray(at, Math.min(end, PAGE)));
      if (end > page.length) {
        this.isInside = wasInside && !begun;
        return;
      }
      at = align(end);
    }
    while (at + 4 <= page.length) {
      const length = page.readUInt32LE(at);
      // The server has written nothing behind it.
      if (length < RECORD_HEADER) return;
      const isOther =
        this.manager !== undefined && at + length <= page.length && page[at + MANAGER_AT] !== this.manager;
      if (isOther) {
        at += align(length);
        continue;
      }
      this.read(
        { at: position + BigInt(at), magic: header.magic, length, read: 0, head: [] },
        page.subarray(at, Math.min(at + length, PAGE)),
      );
      at += align(length);
    }
  }

  private tell(record: WalRecord): void {
    if (this.manager === undefined || record.manager === this.manager) this.onRecord(record);
  }

  private read(record: Unfinished, bytes: Buffer): void {
    const needed = Math.min(record.length, HEAD);
    const isNews = record.read < needed && record.read + bytes.length >= needed;
    if (record.read < needed) record.head.push(bytes.subarray(0, needed - record.read));
    record.read += bytes.length;
    if (isNews) this.tell(recordOf(record));
    if (record.read < record.length) this.unfinished = record;
    else this.last = record.at;
  }
}

function recordOf({ at, magic, head: parts }: Unfinished): WalRecord {
  const [first] = parts;
  const head = parts.length === 1 && first ? first : Buffer.concat(parts);
  const [xid, info, manager] = [head.readUInt32LE(4), head.readUInt8(16), head.readUInt8(MANAGER_AT)];
  return { at, xid, info, manager, magic, body: head.subarray(RECORD_HEADER) };
}
