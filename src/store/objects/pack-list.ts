import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, crc32, zstdCompress, zstdDecompress } from 'node:zlib';
import { LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import { MAX_DOCUMENT } from './bounds.ts';
import { checkDocumentSize } from './documents.ts';
import { WordSet } from './key-set.ts';
import { BEFORE_ID, freeList, ID_DIGITS, linesBesides } from './list-lines.ts';
import { canonicalJson, decodePackLine, type ListedPack, type ObjectRef, type PackListRef } from './manifest.ts';
import { streamOf } from './objects.ts';

/**
 * The list of the packs that a source of a snapshot needs: one JSON line for each pack, in the order of their ids,
 * compressed. It is never encrypted. It holds only names, sizes and hashes of objects, which anybody who can list the
 * destination can find out. Copies, prunes and checks have no keys, and need it.
 */

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

const SUFFIX = '.packs.ndjson.zst';
/** A line is usually shorter, bytes. */
const LINE_BYTES = 320;
/** A list is decompressed in pieces of this size at most, bytes. */
const MAX_CHUNK = 8 * 1024 * 1024;

/** Encodes packs as lines. Equal sets of packs give equal bytes. */
export function encodePackList(packs: readonly ListedPack[]): Buffer {
  const sorted = packs.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  return Buffer.from(sorted.map((pack) => `${canonicalJson(pack)}\n`).join(''));
}

/**
 * Decodes lines: the inverse of {@link encodePackList}.
 *
 * @param seen lines that are skipped. Decoded lines are added, because the lists of neighbouring snapshots have most
 * lines in common. It takes over the bytes: nobody else may use them afterwards
 * @throws OBJECT_DAMAGED
 */
export function* decodePackList(bytes: Buffer, { key }: ObjectRef, seen?: SeenLines): Generator<ListedPack> {
  for (const line of linesBesides(bytes, key, seen?.lastList(key))) {
    if (seen?.has(line)) continue;
    yield decodePackLine(line.toString(), key);
    seen?.add(line);
  }
  const before = seen?.addList(key, bytes);
  if (before && before !== bytes) freeList(before);
}

const BEFORE_KEY = Buffer.from('","key":"');
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** The words of a line: its key without the id as a number, the id, a checksum of all. */
const LINE_WORDS = 6;

/** The last lists take no more memory than this, bytes. */
const MAX_LISTS = 32 * 1024 * 1024;

/**
 * Lines of lists that were decoded already. Takes 24 to 48 bytes for each line, and the last list of each source,
 * because the next one differs from it in few lines. Two lines with different ids or keys
 * always count as different, even if an attacker wrote them. Otherwise, one list could hide a pack of another list from
 * a prune.
 */
export class SeenLines {
  private readonly lines = new WordSet(LINE_WORDS);
  private readonly words = new Uint32Array(LINE_WORDS);
  /** the parts of keys around the ids; a source has one for each of 256 directories and each suffix */
  private readonly around = new Map<string, number>();
  /** the last list of each source, by the name of the object */
  private readonly lists = new Map<string, Buffer>();
  private listBytes = 0;

  /** Returns the last list of the same source. All its lines were added. */
  lastList(key: string): Buffer | undefined {
    return this.lists.get(nameOf(key));
  }

  /** Remembers a list. All its lines were added. Returns the last one of the same source, which is of no more use. */
  addList(key: string, bytes: Buffer): Buffer | undefined {
    const name = nameOf(key);
    const before = this.lists.get(name);
    this.listBytes += bytes.length - (before?.length ?? 0);
    this.lists.set(name, bytes);
    for (const [oldest, list] of this.lists) {
      if (this.listBytes <= MAX_LISTS) break;
      this.lists.delete(oldest);
      this.listBytes -= list.length;
    }
    return before;
  }

  has(line: Buffer): boolean {
    return this.describe(line) && this.lines.has(this.words);
  }

  add(line: Buffer): void {
    if (this.describe(line)) this.lines.add(this.words);
  }

  clear(): void {
    this.lines.clear();
    this.lists.clear();
    this.listBytes = 0;
  }

  /** Computes the words of a line. Returns false for a line that cannot be skipped because its form is another one. */
  private describe(line: Buffer): boolean {
    const { words } = this;
    const idAt = BEFORE_ID.length;
    const keyAt = idAt + ID_DIGITS + BEFORE_KEY.length;
    if (!startsWith(line, BEFORE_ID, 0) || !startsWith(line, BEFORE_KEY, idAt + ID_DIGITS)) return false;
    const keyEnd = line.indexOf(QUOTE, keyAt);
    if (line[keyEnd - 1] === BACKSLASH) return false;
    for (let word = 0; word < ID_DIGITS / 8; word++) {
      let value = 0;
      for (let i = 0; i < 8; i++) value = (value << 4) | digitAt(line, idAt + word * 8 + i);
      words[word + 1] = value;
    }
    const text = line.toString('latin1', keyAt, keyEnd);
    const id = line.toString('latin1', idAt, idAt + ID_DIGITS);
    const at = text.indexOf(id);
    const around = at < 0 ? text : `${text.slice(0, at)}"${text.slice(at + ID_DIGITS)}`;
    let number = this.around.get(around);
    if (number === undefined) {
      number = this.around.size + 1;
      this.around.set(around, number);
    }
    words[0] = number;
    words[LINE_WORDS - 1] = crc32(line);
    return true;
  }
}

/** Returns the name of an object in its directory: that of a list contains the source. */
function nameOf(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1);
}

function startsWith(line: Buffer, text: Buffer, at: number): boolean {
  for (let i = 0; i < text.length; i++) if (line[at + i] !== text[i]) return false;
  return true;
}

/** Returns the value of a lower-case hex digit. */
function digitAt(line: Buffer, at: number): number {
  const code = line[at] as number;
  return code <= 0x39 ? code - 0x30 : code - 0x57;
}

/** A stored list: its reference, and its bytes as stored. */
interface StoredList {
  ref: PackListRef;
  stored: Buffer;
}

/**
 * Puts a list of packs.
 *
 * @param name the object's key without `.packs` and the suffixes
 * @param record is called with the full key before the object is put
 * @throws SNAPSHOT_TOO_LARGE; what the destination throws
 */
export async function putPackList(
  destination: Destination,
  name: string,
  { lines, ...about }: { lines: Buffer } & Pick<PackListRef, 'count' | 'keyId'>,
  record: ((key: string) => Promise<void>) | undefined,
): Promise<StoredList> {
  const key = `${name}${SUFFIX}`;
  checkDocumentSize(key, lines.length);
  const params = { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 };
  const stored = await compress(lines, { params });
  await record?.(key);
  return { ref: { key, ...(await destination.put(key, streamOf(stored), { newKey: true })), ...about }, stored };
}

/**
 * Fetches a list as it is stored, and compares it with its reference.
 *
 * @throws OBJECT_MISSING, OBJECT_DAMAGED; what the destination throws
 */
export async function fetchStoredList(destination: Destination, ref: ObjectRef, signal?: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  if (ref.size <= MAX_DOCUMENT) {
    for await (const chunk of (await destination.get(ref.key, signal ? { signal } : {})) as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > ref.size) break;
    }
  }
  const stored = Buffer.concat(chunks);
  if (isStored(ref, stored)) return stored;
  throw new LifeboatError('OBJECT_DAMAGED', `${ref.key} is not what was stored`);
}

/** Returns whether bytes are those of a stored object. */
export function isStored({ size, sha256 }: ObjectRef, stored: Buffer): boolean {
  return stored.length === size && createHash('sha256').update(stored).digest('hex') === sha256;
}

/** Decompresses a stored list to its lines. @throws OBJECT_DAMAGED */
export async function unpackList({ key, count }: Pick<PackListRef, 'key' | 'count'>, stored: Buffer): Promise<Buffer> {
  // In one piece, if it fits: a thousand lists would leave much memory to collect.
  const chunkSize = Math.min(Math.max(count, 1) * LINE_BYTES, MAX_CHUNK);
  try {
    return await decompress(stored, { maxOutputLength: MAX_DOCUMENT, chunkSize });
  } catch (cause) {
    throw new LifeboatError('OBJECT_DAMAGED', `${key} cannot be decompressed`, { cause });
  }
}
