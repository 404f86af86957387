import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { LifeboatError } from '../../base/errors.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { isArmored, removeArmor } from '../seal/armor.ts';
import { unseal } from '../seal/seal.ts';
import type { ArchiveMember } from './archive-member.ts';
import { unreadable } from './import-errors.ts';
import { readTar } from './read-tar.ts';
import { readZip } from './read-zip.ts';
import { writeSpoolFile } from './spool-space.ts';

/** The content of a file without its compression and encryption. */
export type Inside =
  | { form: 'tar' | 'zip'; members: AsyncGenerator<ArchiveMember> }
  /** pg_dump --format=custom, and text that may be SQL */
  | { form: 'custom' | 'text'; stream: Readable };

interface OpenArchiveOptions {
  /** path of a plain file, which is then read in place; absent: only the stream is available */
  file?: string;
  stream: Readable;
  keys: SealKeys;
  /** path for a zip that arrives as a stream: it is stored there, because its directory is at its end */
  spooled: string;
}

const PEEK = 512;
/** Armor, encryption, compression, and one more of each of the latter. */
const MAX_LAYERS = 5;

type Layer = 'gzip' | 'zstd' | 'age' | 'age-armor' | 'gpg';

/**
 * Recognizes a file by its first bytes, and removes gzip, zstd, age and OpenPGP with the keys of the settings. The name
 * of the file does not matter.
 *
 * @throws KEY_MISSING, KEY_WRONG, IMPORT_UNREADABLE, SPOOL_FULL
 */
export async function openArchive({ file, stream, keys, spooled }: OpenArchiveOptions): Promise<Inside> {
  let { head, rest } = await peek(stream);
  for (let layers = 0; ; layers++) {
    const layer = layerOf(head);
    if (layer === undefined) break;
    if (layers === MAX_LAYERS) throw unreadable('the file is compressed or encrypted too many times');
    ({ head, rest } = await peek(without(layer, rest, keys)));
    file = undefined;
  }
  const form = unsupportedForm(head);
  if (form !== undefined) {
    rest.destroy();
    throw unreadable(
      `the file is compressed with ${form}, which Lifeboat cannot read`,
      undefined,
      `Decompress it first, for example: ${form} -dc FILE | … import - SOURCE.`,
    );
  }
  if (isZip(head)) {
    if (file !== undefined) rest.destroy();
    else await writeSpoolFile(rest, spooled, { mode: 0o600, what: 'the zip' });
    return { form: 'zip', members: readZip(file ?? spooled) };
  }
  if (head.length >= PEEK && head.toString('latin1', 257, 262) === 'ustar')
    return { form: 'tar', members: readTar(rest) };
  return { form: head.toString('latin1', 0, 5) === 'PGDMP' ? 'custom' : 'text', stream: rest };
}

/** Returns the first bytes of a stream, and a stream that still contains them. */
async function peek(stream: Readable): Promise<{ head: Buffer; rest: Readable }> {
  const iterator = stream[Symbol.asyncIterator]();
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    while (size < PEEK) {
      const { value, done } = await iterator.next();
      if (done) break;
      chunks.push(value as Buffer);
      size += (value as Buffer).length;
    }
  } catch (error) {
    throw wrapped(error);
  }
  async function* all(): AsyncGenerator<Buffer> {
    yield* chunks;
    try {
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value as Buffer;
    } catch (error) {
      throw wrapped(error);
    } finally {
      stream.destroy();
    }
  }
  return { head: Buffer.concat(chunks).subarray(0, PEEK), rest: Readable.from(all(), { objectMode: false }) };
}

/** Turns the errors of programs and zlib about damaged files into IMPORT_UNREADABLE. */
function wrapped(error: unknown): unknown {
  if (error instanceof LifeboatError && error.code !== 'OBJECT_DAMAGED') return error;
  if (
    error instanceof LifeboatError ||
    (error instanceof Error && 'code' in error && /^Z_|^ERR_/.test(String(error.code)))
  ) {
    return unreadable('the file is damaged or cut', error);
  }
  return error;
}

function layerOf(head: Buffer): Layer | undefined {
  if (head.length >= 3 && head.readUInt16BE(0) === 0x1f8b) return 'gzip';
  if (head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528) return 'zstd';
  const text = head.toString('latin1', 0, 40);
  if (text.startsWith('age-encryption.org/v1\n')) return 'age';
  if (isArmored(text)) return 'age-armor';
  return text.startsWith('-----BEGIN PGP MESSAGE-----') || isOpenPgp(head) ? 'gpg' : undefined;
}

/**
 * Returns whether the first packet holds a session key (RFC 9580, 4.2 and 5): tag 1 or 3, in the old or the new header
 * format.
 */
function isOpenPgp(head: Buffer): boolean {
  const first = head[0] ?? 0;
  if ((first & 0x80) === 0) return false;
  const tag = first & 0x40 ? first & 0x3f : (first & 0x3c) >> 2;
  return tag === 1 || tag === 3;
}

function without(layer: Layer, stream: Readable, keys: SealKeys): Readable {
  if (layer === 'age-armor') return removeArmor(stream);
  if (layer !== 'gzip') return unseal(stream, `file.${layer === 'zstd' ? 'zst' : layer}`, keys);
  const plain = createGunzip();
  // The stream itself reports the error.
  pipeline(stream, plain).catch((error: Error) => plain.destroy(error));
  return plain;
}

function unsupportedForm(head: Buffer): string | undefined {
  const text = head.toString('latin1', 0, 6);
  if (text.startsWith('BZh')) return 'bzip2';
  return text === '\xfd7zXZ\0' ? 'xz' : undefined;
}

function isZip(head: Buffer): boolean {
  return head.length >= 4 && [0x04034b50, 0x06054b50, 0x06064b50].includes(head.readUInt32LE(0));
}

/** Opens the file at a path as a stream. */
export function fileStream(file: string): Readable {
  return createReadStream(file, { highWaterMark: 256 * 1024 });
}
