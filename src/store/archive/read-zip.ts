import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { crc32, createInflateRaw } from 'node:zlib';
import type { File } from 'unzipper';
import { LifeboatError } from '../../base/errors.ts';
import { displayPath, shorten, type TreePath } from '../filesystem/path.ts';
import type { ArchiveMember } from './archive-member.ts';
import { refused, unreadable } from './import-errors.ts';
import { decodeOddNames } from './names.ts';

const LOCAL_HEADER = 0x04034b50;
const LOCAL_HEADER_SIZE = 30;
const STORED = 0;
const DEFLATED = 8;
const ENCRYPTED = 1;
const UNIX = 3;
/** Size of the records at the end of a zip, with the longest comment. Bytes. */
const MAX_END = 22 + 0xffff;
/** The library finds the end only within one chunk of the stream. */
const TAIL = 2 * MAX_END;
const FILE_TYPE = 0o170000;
const TYPES: ReadonlyMap<number, ArchiveMember['type']> = new Map([
  [0, 'file'],
  [0o100000, 'file'],
  [0o040000, 'directory'],
  [0o120000, 'symlink'],
]);
const MAX_LINK = 4096;

/**
 * Reads the members of a zip, in the order of its directory. Content is verified against its size and CRC-32.
 *
 * @throws IMPORT_UNREADABLE; IMPORT_REFUSED for a zip with a password
 */
export async function* readZip(file: string): AsyncGenerator<ArchiveMember> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    for (const entry of await filesOf(file, size)) yield await memberOf(handle, entry);
  } finally {
    await handle.close();
  }
}

async function filesOf(file: string, size: number): Promise<File[]> {
  try {
    // Loaded only for an import.
    const { Open } = await import('unzipper');
    const options = { tailSize: Math.min(size, MAX_END) };
    const source = {
      size: async () => size,
      stream: (start: number, length?: number) =>
        createReadStream(file, { start, highWaterMark: TAIL, ...(length ? { end: start + length } : {}) }),
    };
    const custom = Open.custom as (
      from: typeof source,
      options: { tailSize: number },
    ) => ReturnType<typeof Open.custom>;
    return await (await custom(source, options)).files;
  } catch (error) {
    throw unreadable('the directory of the zip cannot be read', error);
  }
}

async function memberOf(handle: FileHandle, entry: File): Promise<ArchiveMember> {
  const shown = shorten(displayPath(entry.pathBuffer.toString('latin1')));
  if (entry.flags & ENCRYPTED)
    throw refused(`${shown} in the zip has a password`, { hint: 'Unpack it, and pack it again without a password.' });
  const unix = entry.versionMadeBy >>> 8 === UNIX ? entry.externalFileAttributes >>> 16 : 0;
  const bytes = entry.pathBuffer.toString('latin1');
  const odd = decodeOddNames(Buffer.from(entry.comment as unknown as Buffer).toString('utf8')) ?? {};
  const isDirectory = bytes.endsWith('/');
  const type = isDirectory ? 'directory' : (TYPES.get(unix & FILE_TYPE) ?? 'other');
  const content = () => contentOf(handle, entry, shown);
  const target: { target?: TreePath } =
    type === 'symlink' ? { target: odd.target ?? (await linkOf(entry, content, shown)) } : {};
  return {
    name: odd.path ?? bytes,
    type,
    ...(unix === 0 ? {} : { mode: unix & 0o7777 }),
    mtime: BigInt(Math.trunc(entry.lastModifiedDateTime.getTime() || 0)) * 1_000_000n,
    size: entry.uncompressedSize,
    ...target,
    content,
  };
}

async function linkOf(entry: File, content: () => AsyncIterable<Buffer>, shown: string): Promise<TreePath> {
  if (entry.uncompressedSize > MAX_LINK) throw unreadable(`the symlink ${shown} in the zip is too long`);
  const chunks: Buffer[] = [];
  for await (const chunk of content()) chunks.push(chunk);
  return Buffer.concat(chunks).toString('latin1');
}

async function* contentOf(handle: FileHandle, entry: File, shown: string): AsyncGenerator<Buffer> {
  const { compressionMethod: method, uncompressedSize: size, compressedSize } = entry;
  if (method !== STORED && method !== DEFLATED) {
    throw unreadable(
      `${shown} in the zip is compressed with a method other than deflate`,
      undefined,
      'Unpack it, and pack it again.',
    );
  }
  const start = await contentStart(handle, entry, shown);
  const stored = { crc: 0, size: 0 };
  const raw = pieces(handle, start, compressedSize);
  try {
    for await (const chunk of method === STORED ? raw : inflated(raw)) {
      stored.crc = crc32(chunk, stored.crc);
      stored.size += chunk.length;
      if (stored.size > size) break;
      yield chunk;
    }
  } catch (error) {
    throw error instanceof LifeboatError ? error : unreadable(`${shown} in the zip cannot be read`, error);
  }
  if (stored.size !== size || stored.crc !== entry.crc32) throw unreadable(`${shown} in the zip is damaged`);
}

async function contentStart(handle: FileHandle, { offsetToLocalFileHeader: at }: File, shown: string): Promise<number> {
  const header = Buffer.alloc(LOCAL_HEADER_SIZE);
  const { bytesRead } = await handle.read(header, 0, header.length, at).catch(() => ({ bytesRead: 0 }));
  if (bytesRead < header.length || header.readUInt32LE(0) !== LOCAL_HEADER)
    throw unreadable(`${shown} in the zip is damaged`);
  return at + LOCAL_HEADER_SIZE + header.readUInt16LE(26) + header.readUInt16LE(28);
}

const PIECE = 256 * 1024;

async function* pieces(handle: FileHandle, start: number, length: number): AsyncGenerator<Buffer> {
  for (let done = 0; done < length; ) {
    const piece = Buffer.alloc(Math.min(PIECE, length - done));
    const { bytesRead } = await handle.read(piece, 0, piece.length, start + done);
    if (bytesRead === 0) throw unreadable('the zip is cut');
    done += bytesRead;
    yield piece.subarray(0, bytesRead);
  }
}

async function* inflated(raw: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const inflate = createInflateRaw();
  const fed = pipeline(raw, inflate);
  fed.catch(() => undefined);
  try {
    yield* inflate as AsyncIterable<Buffer>;
    await fed;
  } finally {
    inflate.destroy();
  }
}
