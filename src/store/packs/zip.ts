/** Size and checksum of a content. */
interface ZipContent {
  /** bytes */
  size: number;
  /** CRC-32 of the content, as an unsigned integer */
  crc32: number;
}

interface ZipEntry {
  name: Buffer;
  flags: number;
  /** DOS date and time */
  time: number;
  /** offset of its local header */
  offset: number;
  content: ZipContent;
}

const LOCAL_HEADER = 0x04034b50;
const DIRECTORY_ENTRY = 0x02014b50;
const ZIP64_END = 0x06064b50;
const ZIP64_LOCATOR = 0x07064b50;
const END = 0x06054b50;

/** Flag of an entry. */
const UTF8_NAME = 0x0800;

const VERSION_PLAIN = 10;
const VERSION_ZIP64 = 45;
/** Unix, and the first version of the zip specification with zip64. */
const MADE_BY = (3 << 8) | 45;
/** A regular file with mode 644 and DOS's archive bit. The index has the real modes. */
const ATTRIBUTES = (((0o100644 << 16) >>> 0) | 0x20) >>> 0;

const MAX_16 = 0xffff;
const MAX_32 = 0xffffffff;

const LOCAL_SIZE = 30;
const DIRECTORY_SIZE = 46;

/** Size of a zip without entries, bytes: the end records of zip64 and of a zip. */
export const EMPTY_ZIP = 56 + 20 + 22;

/** Returns the size of the headers of a content, bytes. `nameLength`: bytes of its name. */
export function headersSize(nameLength: number): number {
  return LOCAL_SIZE + DIRECTORY_SIZE + 2 * nameLength;
}

/**
 * Builds the headers of a zip whose contents are stored, not deflated (APPNOTE.TXT 6.3.9, section 4.3). The zip must
 * stay below 4 GiB. Each method returns the bytes to write next. The caller writes the contents between them and passes
 * their CRC-32, which it knows from reading the file. Zip libraries would compute it again, far more slowly.
 */
export class ZipHeaders {
  private readonly entries: ZipEntry[] = [];
  private offset = 0;

  /** Returns the size of the zip so far, including contents, bytes. */
  get size(): number {
    return this.offset;
  }

  /** Returns the header of a content. `text`: its name. */
  before(text: string, mtime: bigint, content: ZipContent): Buffer {
    const name = Buffer.from(text, 'utf8');
    const flags = name.length === text.length ? 0 : UTF8_NAME;
    const time = dosTime(mtime);
    this.entries.push({ name, flags, time, offset: this.offset, content });
    const header = Buffer.alloc(LOCAL_SIZE + name.length);
    header.writeUInt32LE(LOCAL_HEADER, 0);
    header.writeUInt16LE(VERSION_PLAIN, 4);
    header.writeUInt16LE(flags, 6);
    header.writeUInt32LE(time, 10);
    header.writeUInt32LE(content.crc32, 14);
    header.writeUInt32LE(content.size, 18);
    header.writeUInt32LE(content.size, 22);
    header.writeUInt16LE(name.length, 26);
    name.copy(header, LOCAL_SIZE);
    this.offset += header.length + content.size;
    return header;
  }

  /** Returns the directory and the end records of the zip, always including those of zip64. */
  end(): Buffer {
    const directory = Buffer.concat(this.entries.map(directoryEntry));
    const records = endRecords(this.entries.length, directory.length, this.offset);
    this.offset += directory.length + records.length;
    return Buffer.concat([directory, records]);
  }
}

function directoryEntry({ name, flags, time, offset, content }: ZipEntry): Buffer {
  const { size, crc32 } = content;
  const record = Buffer.alloc(DIRECTORY_SIZE + name.length);
  record.writeUInt32LE(DIRECTORY_ENTRY, 0);
  record.writeUInt16LE(MADE_BY, 4);
  record.writeUInt16LE(VERSION_PLAIN, 6);
  record.writeUInt16LE(flags, 8);
  record.writeUInt32LE(time, 12);
  record.writeUInt32LE(crc32, 16);
  record.writeUInt32LE(size, 20);
  record.writeUInt32LE(size, 24);
  record.writeUInt16LE(name.length, 28);
  record.writeUInt32LE(ATTRIBUTES, 38);
  record.writeUInt32LE(offset, 42);
  name.copy(record, DIRECTORY_SIZE);
  return record;
}

function endRecords(count: number, length: number, offset: number): Buffer {
  const end = Buffer.alloc(EMPTY_ZIP);
  end.writeUInt32LE(ZIP64_END, 0);
  end.writeBigUInt64LE(44n, 4);
  end.writeUInt16LE(VERSION_ZIP64, 12);
  end.writeUInt16LE(VERSION_ZIP64, 14);
  end.writeBigUInt64LE(BigInt(count), 24);
  end.writeBigUInt64LE(BigInt(count), 32);
  end.writeBigUInt64LE(BigInt(length), 40);
  end.writeBigUInt64LE(BigInt(offset), 48);
  end.writeUInt32LE(ZIP64_LOCATOR, 56);
  end.writeBigUInt64LE(BigInt(offset + length), 64);
  end.writeUInt32LE(1, 72);
  end.writeUInt32LE(END, 76);
  end.writeUInt16LE(MAX_16, 84);
  end.writeUInt16LE(MAX_16, 86);
  end.writeUInt32LE(MAX_32, 88);
  end.writeUInt32LE(MAX_32, 92);
  return end;
}

/**
 * Returns the DOS time, in UTC and steps of two seconds, from 1980 to 2043. For people only: the index has the exact
 * time.
 */
function dosTime(mtime: bigint): number {
  const date = new Date(Math.max(0, Number(mtime / 1_000_000n)));
  const year = date.getUTCFullYear();
  if (year < 1980) return (1 << 21) | (1 << 16);
  if (!(year < 2044)) return ((63 << 25) | (12 << 21) | (31 << 16) | (23 << 11) | (59 << 5) | 29) >>> 0;
  const day = ((year - 1980) << 25) | ((date.getUTCMonth() + 1) << 21) | (date.getUTCDate() << 16);
  const time = (date.getUTCHours() << 11) | (date.getUTCMinutes() << 5) | (date.getUTCSeconds() >> 1);
  return (day | time) >>> 0;
}
