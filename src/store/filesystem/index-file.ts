import { areRanges, type DataRanges, storedSize } from './data-ranges.ts';
import type { FileType } from './file-stat.ts';
import { damagedIndex as damaged, MAX_CONTENT, matching, PACK_ID, parseLine, SHA256, whole } from './index-part.ts';
import { comparePaths, decodePath, type EncodedPath, encodePath, isSafePath, type TreePath } from './path.ts';

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
  /** ID of the pack with the content; absent for empty files, and for files in parts */
  pack?: string;
  /** name of the content inside the pack */
  entry?: string;
  /** for a large file, which is stored in parts: their number. Their lines follow this one */
  parts?: number;
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
  if (entry.parts !== undefined) line.parts = entry.parts;
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
  takePlace(fields, entry);
  if (fields.changed === true) entry.changed = true;
  if (fields.sparse === true) entry.sparse = true;
  if (typeof fields.sqlite === 'string') entry.sqlite = fields.sqlite.slice(0, MAX_STATE);
}

/** Takes where the content is stored: nowhere if there is none, else in one entry of a pack, or in parts. */
function takePlace({ pack, entry: name, parts }: Record<string, unknown>, entry: IndexEntry): void {
  const stored = storedSize(entry);
  if (stored === 0) {
    if (pack === undefined && name === undefined && parts === undefined) return;
    throw damaged('an empty file has no content');
  }
  if (parts !== undefined) {
    if (pack !== undefined || name !== undefined) throw damaged('a file in parts has another content');
    entry.parts = whole(parts, 'parts', stored);
    if (parts === 0) throw damaged('a file has no parts');
    return;
  }
  if (entry.ranges || stored > MAX_CONTENT) throw damaged('a large file is not in parts');
  entry.pack = matching(pack, PACK_ID, 'pack');
  if (typeof name !== 'string' || name === '') throw damaged('entry missing');
  entry.entry = name;
}

function takeTarget(fields: Record<string, unknown>, entry: IndexEntry): void {
  entry.target = takePath(fields, 'target');
  if (entry.target === '' || entry.target.includes('\0')) throw damaged('target cannot be used');
  if (entry.type !== 'hardlink') return;
  if (!isSafePath(entry.target)) throw damaged('target leaves the tree');
  if (comparePaths(entry.target, entry.path) >= 0) throw damaged('a hard link comes before its target');
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
