/**
 * Reads the records of the write-ahead log, as servers on little-endian processors write them. A segment has pages. A
 * record that does not fit continues after the header of the next page (Postgres source, xlog_internal.h and
 * xlogrecord.h).
 */

/** The size of a page, bytes. Servers with pages of another size are rare: nothing is found in their WAL. */
export const PAGE = 8192;

const CONTINUES = 0x0001;
const LONG = 0x0002;
const SHORT_HEADER = 24;
const LONG_HEADER = 40;
const RECORD_HEADER = 24;
/** The bytes of a record that are kept: enough for all that is looked for. */
const HEAD = 4096;

/** A record of the WAL. */
export interface WalRecord {
  /** position of its first byte */
  at: bigint;
  xid: number;
  /** the resource manager that wrote it, see rmgrlist.h */
  manager: number;
  info: number;
  /** what follows its header: the first bytes of it */
  body: Buffer;
}

/** A record of which not every byte was read. */
interface Unfinished {
  at: bigint;
  length: number;
  read: number;
  head: Buffer[];
}

const align = (size: number) => Math.ceil(size / 8) * 8;

/** Finds the records in consecutive WAL. */
export class RecordScanner {
  /** what was read begins inside a record, and ends inside the same one */
  isInside = false;
  private readonly onRecord: (record: WalRecord) => void;
  private unfinished: Unfinished | undefined;
  private waiting: Buffer = Buffer.alloc(0);
  private position: bigint;
  private isFirst = true;

  /**
   * @param position of the first byte that is added, at the beginning of a page
   * @param onRecord called with each record of which the first bytes were added
   */
  constructor(position: bigint, onRecord: (record: WalRecord) => void) {
    this.position = position;
    this.onRecord = onRecord;
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
    const size = headerSize(page, position);
    // Zeros, such as those after pg_switch_wal().
    if (size === undefined) return;
    let at = size;
    if ((page.readUInt16LE(2) & CONTINUES) !== 0) {
      const remaining = page.readUInt32LE(16);
      const end = at + remaining;
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
      this.read(
        { at: position + BigInt(at), length, read: 0, head: [] },
        page.subarray(at, Math.min(at + length, PAGE)),
      );
      at += align(length);
    }
  }

  private read(record: Unfinished, bytes: Buffer): void {
    const needed = Math.min(record.length, HEAD);
    const isNews = record.read < needed && record.read + bytes.length >= needed;
    if (record.read < needed) record.head.push(bytes.subarray(0, needed - record.read));
    record.read += bytes.length;
    if (isNews) this.onRecord(recordOf(record));
    if (record.read < record.length) this.unfinished = record;
  }
}

function recordOf({ at, head: parts }: Unfinished): WalRecord {
  const [first] = parts;
  const head = parts.length === 1 && first ? first : Buffer.concat(parts);
  const [xid, info, manager] = [head.readUInt32LE(4), head.readUInt8(16), head.readUInt8(17)];
  return { at, xid, info, manager, body: head.subarray(RECORD_HEADER) };
}

/** Returns the size of a page's header; undefined for zeros, and for a page of another place. */
function headerSize(page: Buffer, position: bigint): number | undefined {
  if (page.length < SHORT_HEADER || page[1] !== 0xd1 || page.readBigUInt64LE(8) !== position) return undefined;
  if ((page.readUInt16LE(2) & LONG) === 0) return SHORT_HEADER;
  return page.length >= LONG_HEADER && page.readUInt32LE(36) === PAGE ? LONG_HEADER : undefined;
}
