import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { hasErrno } from '../../../base/errors.ts';
import { READ_FLAGS } from '../../../store/filesystem/read-file.ts';

/** Makes the dumps of an unchanged server equal, so that nothing of them is stored again. */

const WRITE_FLAGS = (READ_FLAGS & ~constants.O_RDONLY) | constants.O_RDWR;

/** The header of a table of contents (WriteHead in pg_backup_archiver.c), up to the time at which the dump was made. */
const MAGIC = 'PGDMP';
const VERSION_AT = 5;
const INT_SIZE_AT = 8;
const COMPRESSION_AT = 11;
const HEADER_BYTES = 64;
/** From this minor version on, one byte names the compression, and before a number. */
const NAMED_COMPRESSION = 15;

/** The fields of a time, as in C: seconds, minutes, hours, day, month from 0, years since 1900, summer time. */
const LIMITS: readonly [number, number][] = [
  [0, 61],
  [0, 59],
  [0, 23],
  [1, 31],
  [0, 11],
  [100, 300],
  [0, 1],
];
/** 2000-01-01 00:00. */
const CONSTANT = [0, 0, 0, 1, 0, 100, 0];

/**
 * Replaces the time in a dump's table of contents by a constant. `pg_restore` only shows this time. A file with another
 * header stays as it is.
 *
 * @param file a plain file that nobody else writes to
 */
export async function dropDumpTime(file: string): Promise<void> {
  const handle = await openToWrite(file);
  if (!handle) return;
  try {
    const header = Buffer.alloc(HEADER_BYTES);
    const { bytesRead } = await handle.read(header, 0, HEADER_BYTES, 0);
    const at = timeAt(header.subarray(0, bytesRead));
    if (at === undefined) return;
    const time = Buffer.concat(CONSTANT.map(encodeInt));
    await handle.write(time, 0, time.length, at);
  } finally {
    await handle.close();
  }
}

/** Opens a file that may belong to the user of the helper. Undefined if the agent may not write to it. */
async function openToWrite(file: string): Promise<FileHandle | undefined> {
  return open(file, WRITE_FLAGS).catch((error: unknown) => {
    if (hasErrno(error, 'EACCES', 'EPERM')) return undefined;
    throw error;
  });
}

/** Returns where the time begins in a header. Undefined if the header has another form. */
function timeAt(header: Buffer): number | undefined {
  if (header.length < HEADER_BYTES || header.toString('latin1', 0, VERSION_AT) !== MAGIC) return undefined;
  const [major, minor] = [header.readUInt8(VERSION_AT), header.readUInt8(VERSION_AT + 1)];
  if (major !== 1 || header.readUInt8(INT_SIZE_AT) !== 4) return undefined;
  const at = COMPRESSION_AT + (minor >= NAMED_COMPRESSION ? 1 : 5);
  const isTime = LIMITS.every(([least, most], i) => {
    const value = header.readInt32LE(at + i * 5 + 1);
    return header.readUInt8(at + i * 5) === 0 && value >= least && value <= most;
  });
  return isTime ? at : undefined;
}

/** Encodes a number that is not negative: its sign, then its four bytes from the lowest on. */
function encodeInt(value: number): Buffer {
  const encoded = Buffer.alloc(5);
  encoded.writeUInt32LE(value, 1);
  return encoded;
}

/** A longer script stays as it is, bytes. */
const MAX_SCRIPT = 16 * 1024 * 1024;
/** A key has only letters and digits (generate_restrict_key in dumputils.c). */
const KEY_LINES = /^\\(?:un)?restrict ([0-9A-Za-z]{16,64})$/gm;

/**
 * Replaces the random key of `\restrict` and `\unrestrict` in a script by a hash of the rest of the script. Nobody can
 * put the key into the names and comments in the script, because they change it.
 *
 * @param file a plain file that nobody else writes to
 */
export async function settleRestrictKey(file: string): Promise<void> {
  const handle = await openToWrite(file);
  if (!handle) return;
  try {
    if ((await handle.stat()).size <= MAX_SCRIPT) await writeKey(handle);
  } finally {
    await handle.close();
  }
}

async function writeKey(handle: FileHandle): Promise<void> {
  // One character for each byte, so that positions are those of bytes.
  const script = (await handle.readFile()).toString('latin1');
  const lines = [...script.matchAll(KEY_LINES)];
  const [first, second, ...more] = lines.map(([, key = '']) => key);
  // The script begins and ends with the key. Anything else was not written by pg_dumpall.
  if (first === undefined || first !== second || more.length > 0) return;
  const rest = script.replaceAll(KEY_LINES, '');
  const key = createHash('sha256').update(rest, 'latin1').digest('hex').slice(0, first.length);
  for (const line of lines)
    await handle.write(key.padEnd(first.length, '0'), line.index + line[0].length - first.length, 'latin1');
}
