import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress } from 'node:zlib';
import { LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import { checkDocumentSize } from './documents.ts';
import { canonicalJson, decodePackLine, type ListedPack, type ObjectRef, type PackListRef } from './manifest.ts';
import { MAX_DOCUMENT, streamOf } from './objects.ts';

/**
 * The list of the packs that a source of a snapshot needs: one JSON line for each pack, in the order of their ids,
 * compressed. It is never encrypted. It holds only names, sizes and hashes of objects, which anybody who can list the
 * destination can find out. Copies, prunes and checks have no keys, and need it.
 */

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

const SUFFIX = '.packs.ndjson.zst';

/** Returns true for the key of a list of packs. */
export function isPackListKey(key: string): boolean {
  return key.endsWith(SUFFIX);
}

/** Encodes packs as lines. Equal sets of packs give equal bytes. */
export function encodePackList(packs: readonly ListedPack[]): Buffer {
  const sorted = packs.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  return Buffer.from(sorted.map((pack) => `${canonicalJson(pack)}\n`).join(''));
}

/**
 * Decodes lines: the inverse of {@link encodePackList}.
 *
 * @param seen lines that are skipped. Decoded lines are added, because the lists of neighbouring snapshots have most
 * lines in common
 * @throws OBJECT_DAMAGED
 */
export function* decodePackList(bytes: Buffer, { key }: ObjectRef, seen?: Set<string>): Generator<ListedPack> {
  for (let from = 0; from < bytes.length; ) {
    const end = bytes.indexOf(0x0a, from);
    if (end < 0) throw new LifeboatError('OBJECT_DAMAGED', `${key} ends within a line`);
    const line = bytes.toString('utf8', from, end);
    from = end + 1;
    if (seen?.has(line)) continue;
    yield decodePackLine(line, key);
    seen?.add(line);
  }
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
  return { ref: { key, ...(await destination.put(key, streamOf(stored))), ...about }, stored };
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
export async function unpackList({ key }: ObjectRef, stored: Buffer): Promise<Buffer> {
  try {
    return await decompress(stored, { maxOutputLength: MAX_DOCUMENT });
  } catch (cause) {
    throw new LifeboatError('OBJECT_DAMAGED', `${key} cannot be decompressed`, { cause });
  }
}
