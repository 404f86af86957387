/**
 * Finds records in segments of the write-ahead log, as servers on little-endian processors write them. A segment has
 * pages. A record that does not fit continues after the header of the next page (Postgres source, xlog_internal.h,
 * xlogrecord.h).
 */

/** The size of a page, bytes. Servers with pages of another size are rare, and nothing is known about theirs. */
const PAGE = 8192;

const CONTINUES = 0x0001;
const LONG = 0x0002;
const SHORT_HEADER = 24;
const LONG_HEADER = 40;
const RECORD_HEADER = 24;

interface PageHeader {
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
  const header: PageHeader = { size: SHORT_HEADER, address: page.readBigUInt64LE(8) };
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

/** Finds the last record in consecutive WAL. */
export class LastRecord {
  /** the position of the last record of which every byte was there; undefined if none began in what was read */
  found: bigint | undefined;
  /** the position of the record that continues on the next page */
  private current: bigint | undefined;

  /** Adds WAL that follows what was added before, and begins with a page. */
  add(wal: Buffer, position: bigint): void {
    for (let at = 0; at < wal.length; at += PAGE) this.addPage(wal.subarray(at, at + PAGE), position + BigInt(at));
  }

  /** @param page shorter than a page if the rest is not stored */
  private addPage(page: Buffer, position: bigint): void {
    const header = headerOf(page);
    const begun = this.current;
    this.current = undefined;
    // Zeros, such as those after pg_switch_wal().
    if (header?.address !== position) return;
    let at = header.size;
    if (header.remaining !== undefined) {
      at += header.remaining;
      if (at > PAGE) this.current = begun;
      if (at > page.length) return;
      this.found = begun ?? this.found;
      at = align(at);
    }
    while (at + 4 <= page.length) {
      const length = page.readUInt32LE(at);
      // The server has written nothing behind it.
      if (length < RECORD_HEADER) return;
      if (at + length > PAGE) this.current = position + BigInt(at);
      if (at + length > page.length) return;
      this.found = position + BigInt(at);
      at += align(length);
    }
  }
}
