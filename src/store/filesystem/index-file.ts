import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { LifeboatError } from '../../base/errors.ts';
import { areRanges, type DataRanges, storedSize } from './data-ranges.ts';
import type { FileType } from './file-stat.ts';
import {
  comparePaths,
  decodePath,
  type EncodedPath,
  encodePath,
  isSafePath,
  parentOf,
  shortPath,
  type TreePath,
} from './path.ts';

/** The type of an index line. `hardlink`: another name of a file with an earlier line. */
type EntryType = FileType | 'hardlink';

/** One line of an index, for one name in a tree. */
export interface IndexEntry {
  path: TreePath;
  type: EntryType;
  /** permission bits, with setuid, setgid and sticky */
  mode: number;
  uid: number;
  gid: number;
  /** nanoseconds since 1970 */
  mtime: bigint;
  /** only to detect changes; absent if the file was too fresh for its times to prove anything */
  ctime?: bigint;
  /** only to detect changes */
  ino?: bigint;
  /** size in bytes, of files and hard links */
  size?: number;
  /** hex SHA-256 of the content, of files and hard links */
  sha256?: string;
  /** ID of the pack with the content; absent for empty files */
  pack?: string;
  /** name of the content inside the pack */
  entry?: string;
  /** the target of a symlink; for a hard link, the path of the first name */
  target?: TreePath;
  /** the file changed each time it was read: its content may not be that of a single moment */
  changed?: true;
  /** the file had holes */
  sparse?: true;
  /** for a large file with holes: the ranges of its data; see `areRanges` */
  ranges?: DataRanges;
  /** for an SQLite database: the state of its log and journal, only to detect changes */
  sqlite?: string;
}

const TYPES: readonly string[] = ['file', 'directory', 'symlink', 'hardlink', 'fifo', 'socket', 'char', 'block'];
const SHA256 = /^[0-9a-f]{64}$/;
const PACK_ID = /^[0-9a-f]{32}$/;
const DECIMAL = /^(0|-?[1-9][0-9]{0,19})$/;
const MODE = /^[0-7]{4}$/;
const MAX_STATE = 32;

/**
 * Upper bound for a line, bytes. A path of 4095 bytes in base64, with its percent-encoded entry name, stays well below.
 */
export const MAX_LINE = 64 * 1024;

/** Returns an entry as one line with its line feed. Keys are always in the same order. */
export function encodeIndexEntry(entry: IndexEntry): string {
  const line: Record<string, unknown> = {};
  putPath(line, 'path', entry.path);
  line.type = entry.type;
  line.mode = entry.mode.toString(8).padStart(4, '0');
  line.uid = entry.uid;
  line.gid = entry.gid;
  line.mtime = String(entry.mtime);
  if (entry.ctime !== undefined) line.ctime = String(entry.ctime);
  if (entry.ino !== undefined) line.ino = String(entry.ino);
  if (entry.size !== undefined) line.size = entry.size;
  if (entry.sha256 !== undefined) line.sha256 = entry.sha256;
  if (entry.pack !== undefined) line.pack = entry.pack;
  if (entry.entry !== undefined) line.entry = entry.entry;
  if (entry.target !== undefined) putPath(line, 'target', entry.target);
  if (entry.changed) line.changed = true;
  if (entry.sparse) line.sparse = true;
  if (entry.ranges !== undefined) line.ranges = entry.ranges;
  if (entry.sqlite !== undefined) line.sqlite = entry.sqlite;
  return `${JSON.stringify(line)}\n`;
}

function putPath(line: Record<string, unknown>, name: string, path: TreePath): void {
  const encoded = encodePath(path);
  if ('text' in encoded) line[name] = encoded.text;
  else line[`${name}_base64`] = encoded.base64;
}

/**
 * The inverse of {@link encodeIndexEntry}, for one line without its line feed. Unknown keys are ignored.
 *
 * @throws OBJECT_DAMAGED for anything that `encodeIndexEntry` cannot produce
 */
export function decodeIndexEntry(line: Buffer | string): IndexEntry {
  const fields = parseLine(line);
  const type = fields.type;
  if (typeof type !== 'string' || !TYPES.includes(type)) throw damaged('unknown type');
  const entry: IndexEntry = {
    path: takePath(fields, 'path'),
    type: type as EntryType,
    mode: Number.parseInt(matching(fields.mode, MODE, 'mode'), 8),
    uid: whole(fields.uid, 'uid', 0xffffffff),
    gid: whole(fields.gid, 'gid', 0xffffffff),
    mtime: BigInt(matching(fields.mtime, DECIMAL, 'mtime')),
  };
  if (!isSafePath(entry.path)) throw damaged('path leaves the tree');
  if (fields.ctime !== undefined) entry.ctime = BigInt(matching(fields.ctime, DECIMAL, 'ctime'));
  if (fields.ino !== undefined) entry.ino = BigInt(matching(fields.ino, DECIMAL, 'ino'));
  if (type === 'file' || type === 'hardlink') takeContent(fields, entry);
  if (type === 'symlink' || type === 'hardlink') takeTarget(fields, entry);
  return entry;
}

function takeContent(fields: Record<string, unknown>, entry: IndexEntry): void {
  entry.size = whole(fields.size, 'size', Number.MAX_SAFE_INTEGER);
  entry.sha256 = matching(fields.sha256, SHA256, 'sha256');
  if (fields.ranges !== undefined) {
    if (!areRanges(fields.ranges, entry.size)) throw damaged('ranges not well formed');
    entry.ranges = fields.ranges;
    // Only sparse files have ranges, so a line without the flag is corrected.
    entry.sparse = true;
  }
  if (storedSize(entry) > 0) {
    entry.pack = matching(fields.pack, PACK_ID, 'pack');
    if (typeof fields.entry !== 'string' || fields.entry === '') throw damaged('entry missing');
    entry.entry = fields.entry;
  } else if (fields.pack !== undefined || fields.entry !== undefined) throw damaged('an empty file has no content');
  if (fields.changed === true) entry.changed = true;
  if (fields.sparse === true) entry.sparse = true;
  if (typeof fields.sqlite === 'string') entry.sqlite = fields.sqlite.slice(0, MAX_STATE);
}

function takeTarget(fields: Record<string, unknown>, entry: IndexEntry): void {
  entry.target = takePath(fields, 'target');
  if (entry.target === '' || entry.target.includes('\0')) throw damaged('target cannot be used');
  if (entry.type !== 'hardlink') return;
  if (!isSafePath(entry.target)) throw damaged('target leaves the tree');
  if (comparePaths(entry.target, entry.path) >= 0) throw damaged('a hard link comes before its target');
}

function parseLine(line: Buffer | string): Record<string, unknown> {
  if (typeof line !== 'string' && !isUtf8(line)) throw damaged('not UTF-8');
  let value: unknown;
  try {
    value = JSON.parse(typeof line === 'string' ? line : line.toString('utf8'));
  } catch {
    throw damaged('not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw damaged('not an object');
  return value as Record<string, unknown>;
}

function takePath(fields: Record<string, unknown>, name: string): TreePath {
  const text = fields[name];
  const base64 = fields[`${name}_base64`];
  let encoded: EncodedPath | undefined;
  if (typeof text === 'string' && base64 === undefined) encoded = { text };
  else if (typeof base64 === 'string' && text === undefined) encoded = { base64 };
  const path = encoded && decodePath(encoded);
  if (path === undefined) throw damaged(`${name} missing or not well formed`);
  return path;
}

function matching(value: unknown, pattern: RegExp, name: string): string {
  if (typeof value !== 'string' || !pattern.test(value)) throw damaged(`${name} missing or not well formed`);
  return value;
}

function whole(value: unknown, name: string, max: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > max) {
    throw damaged(`${name} missing or not well formed`);
  }
  return value;
}

function damaged(what: string): LifeboatError {
  return new LifeboatError('OBJECT_DAMAGED', `the index is damaged: ${what}`);
}

/**
 * Reads an index and checks it as a whole: it starts with the root, lines are in order, every parent is a directory of
 * the index, no name occurs twice, and it ends with a line feed.
 *
 * @throws OBJECT_DAMAGED at the first violation
 */
export async function* readIndex(stream: AsyncIterable<Buffer>): AsyncGenerator<IndexEntry> {
  /** the open directories above the current entry */
  const open: TreePath[] = [];
  let last: TreePath | undefined;
  let number = 0;
  for await (const line of readLines(stream)) {
    number++;
    const entry = decodeNumbered(line, number);
    const { path } = entry;
    if (last === undefined) {
      if (path !== '' || entry.type !== 'directory') throw damaged('it does not start with the root');
    } else {
      if (comparePaths(last, path) >= 0) throw damaged(`line ${number} is out of order`);
      const parent = parentOf(path);
      while (open.length > 0 && open.at(-1) !== parent) open.pop();
      if (open.length === 0) throw damaged(`the parent of ${shortPath(path)} is not a directory of it`);
    }
    if (entry.type === 'directory') open.push(path);
    last = path;
    yield entry;
  }
  if (last === undefined) throw damaged('it is empty');
}

function decodeNumbered(line: Buffer, number: number): IndexEntry {
  try {
    return decodeIndexEntry(line);
  } catch (cause) {
    throw cause instanceof LifeboatError ? damaged(`line ${number}: ${cause.message.replace(/^.*?: /, '')}`) : cause;
  }
}

/** Reads a plain index file, which is opened when the first entry is requested. Throws like {@link readIndex}. */
export function readIndexFile(path: string): AsyncGenerator<IndexEntry> {
  return readIndex(chunksOf(path));
}

async function* chunksOf(path: string): AsyncGenerator<Buffer> {
  yield* createReadStream(path, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>;
}

/** Splits a stream at line feeds. A last line without one is an error, because the stream was cut. */
export async function* readLines(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer | undefined;
  for await (const chunk of stream) {
    const data: Buffer = rest ? Buffer.concat([rest, chunk]) : chunk;
    let start = 0;
    for (let end = data.indexOf(10); end >= 0; end = data.indexOf(10, start)) {
      yield data.subarray(start, end);
      start = end + 1;
    }
    rest = start < data.length ? data.subarray(start) : undefined;
    if (rest && rest.length > MAX_LINE) throw damaged('a line is too long');
  }
  if (rest) throw damaged('its last line is cut');
}
