import { formatLsn, startOf } from '../../../src/store/wal/names.ts';
import { SIZE, SYSTEM } from './bench.ts';

const PAGE = 8192;
const SEGMENT = BigInt(SIZE);

/** A record to write. */
interface Written {
  xid?: number;
  manager?: number;
  info?: number;
  /** position of the record before it */
  prev?: bigint;
  /** its main data */
  data?: Buffer;
}

/** Writes WAL as Postgres does: pages with headers, and records that continue on the next page. */
export class WalBytes {
  private readonly first: number;
  private readonly magic: number;
  private readonly chunks: Buffer[] = [];
  private position: bigint;

  /**
   * @param first number of the first segment
   * @param magic of the pages, see XLOG_PAGE_MAGIC
   */
  constructor(first: number, magic = 0xd116) {
    this.first = first;
    this.magic = magic;
    this.position = startOf(first, SIZE);
  }

  /** Returns WAL that goes on in another way from here on. */
  fork(): WalBytes {
    const other = new WalBytes(this.first, this.magic);
    other.write(Buffer.concat(this.chunks));
    return other;
  }

  /** Adds a record. Returns the positions of its first byte and of the byte after it. */
  add({ xid = 0, manager = 10, info = 0, prev = 0n, data = Buffer.alloc(40) }: Written): { at: bigint; end: bigint } {
    this.write(Buffer.alloc(Number(-this.position & 7n)));
    const head = data.length < 256 ? Buffer.from([255, data.length]) : Buffer.from([254, 0, 0, 0, 0]);
    if (data.length >= 256) head.writeUInt32LE(data.length, 1);
    const record = Buffer.concat([Buffer.alloc(24), head, data]);
    record.writeUInt32LE(record.length, 0);
    record.writeUInt32LE(xid, 4);
    record.writeBigUInt64LE(prev, 8);
    record.writeUInt8(info, 16);
    record.writeUInt8(manager, 17);
    if (this.position % BigInt(PAGE) === 0n) this.header(0);
    const at = this.position;
    for (let done = 0; done < record.length; ) {
      if (this.position % BigInt(PAGE) === 0n) this.header(record.length - done);
      const room = PAGE - Number(this.position % BigInt(PAGE));
      this.write(record.subarray(done, done + room));
      done += Math.min(room, record.length - done);
    }
    return { at, end: this.position };
  }

  /** Adds records until the next one begins or ends so near before a position that it does not fit before it. */
  fillTo(position: bigint): void {
    while (this.position + 9000n < position) this.add({ data: Buffer.alloc(8000) });
    while (this.position + 120n < position) this.add({});
    const left = Number(position - this.position) - 8;
    if (left > 26) this.add({ data: Buffer.alloc(left - 26) });
  }

  /** Returns a segment. What is not written is zeros. */
  segment(number: number): Buffer {
    const all = Buffer.concat(this.chunks);
    const from = (number - this.first) * SIZE;
    return Buffer.concat([all.subarray(from, from + SIZE)], SIZE);
  }

  get end(): string {
    return formatLsn(this.position);
  }

  private header(remaining: number): void {
    const isLong = this.position % SEGMENT === 0n;
    const header = Buffer.alloc(isLong ? 40 : 24);
    header.writeUInt16LE(this.magic, 0);
    header.writeUInt16LE((remaining > 0 ? 1 : 0) | (isLong ? 2 : 0), 2);
    header.writeBigUInt64LE(this.position, 8);
    header.writeUInt32LE(remaining, 16);
    if (isLong) {
      header.writeBigUInt64LE(BigInt(SYSTEM), 24);
      header.writeUInt32LE(SIZE, 32);
      header.writeUInt32LE(PAGE, 36);
    }
    this.write(header);
  }

  private write(bytes: Buffer): void {
    this.chunks.push(bytes);
    this.position += BigInt(bytes.length);
  }
}
