import path from 'node:path';
import type { Readable } from 'node:stream';
import { LifeboatError } from '../base/errors.ts';
import type { CallOptions, Engine } from './engine.ts';
import { isNotFound } from './engine-errors.ts';

const BLOCK = 512;
/** The number of symbolic links to follow. */
const MAX_LINKS = 8;

interface ReadFileOptions extends CallOptions {
  /** the largest allowed file, bytes */
  limit?: number;
}

/**
 * Reads a file from a container's file system, including its volumes and binds, without a process in the container: the
 * engine packs the file (`GET /containers/<id>/archive`). Follows symbolic links inside the container. The content is
 * untrusted: this reads at most `limit` bytes, by default 64 KiB.
 *
 * Resolves to undefined if the file does not exist, or is not a regular file. Cannot see a tmpfs of a running
 * container.
 *
 * @throws ENGINE_*
 */
export async function readContainerFile(
  engine: Pick<Engine, 'archive'>,
  id: string,
  file: string,
  { limit = 64 * 1024, signal }: ReadFileOptions = {},
): Promise<Buffer | undefined> {
  for (let at = file, links = 0; links < MAX_LINKS; links++) {
    const entry = await readEntry({ engine, id, file: at, limit, signal });
    if (entry === undefined || Buffer.isBuffer(entry)) return entry;
    at = path.posix.resolve(path.posix.dirname(at), entry.link);
  }
  return undefined;
}

interface ReadEntryOptions {
  engine: Pick<Engine, 'archive'>;
  id: string;
  file: string;
  limit: number;
  signal: AbortSignal | undefined;
}

async function readEntry({
  engine,
  id,
  file,
  limit,
  signal,
}: ReadEntryOptions): Promise<Buffer | { link: string } | undefined> {
  let archive: Readable;
  try {
    archive = await engine.archive(id, file, { signal });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
  try {
    return await firstEntry(archive, limit, file);
  } finally {
    archive.destroy();
  }
}

/**
 * Returns what exists at a path of a container, including its volumes and binds. Follows symbolic links inside the
 * container. Resolves to undefined if nothing exists there.
 *
 * @throws ENGINE_*
 */
export async function kindInContainer(
  engine: Pick<Engine, 'archive'>,
  id: string,
  file: string,
  options: CallOptions = {},
): Promise<'directory' | 'file' | 'other' | undefined> {
  return (await placeInContainer(engine, id, file, options))?.kind;
}

/** A path of a container at which something exists, and which is no symbolic link. */
interface ContainerPlace {
  path: string;
  kind: 'directory' | 'file' | 'other';
}

/** Returns also where the links at the end of a path lead, like {@link kindInContainer}. */
export async function placeInContainer(
  engine: Pick<Engine, 'archive'>,
  id: string,
  file: string,
  options: CallOptions = {},
): Promise<ContainerPlace | undefined> {
  for (let at = file, links = 0; links < MAX_LINKS; links++) {
    const header = await readHeader(engine, id, at, options);
    if (header === undefined) return undefined;
    if (!('link' in header)) {
      return { path: at, kind: header.type === '5' ? 'directory' : header.type === '0' ? 'file' : 'other' };
    }
    at = path.posix.resolve(path.posix.dirname(at), header.link);
  }
  return undefined;
}

async function readHeader(
  engine: Pick<Engine, 'archive'>,
  id: string,
  file: string,
  options: CallOptions,
): Promise<Header | undefined> {
  let archive: Readable;
  try {
    archive = await engine.archive(id, file, options);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
  try {
    return await firstHeader(taker(archive), file);
  } finally {
    archive.destroy();
  }
}

/** The header of a tar member. */
type Header = { link: string } | { type: string; size: number };

type Take = (bytes: number) => Promise<Buffer>;

/** Reads the first header of a tar archive (POSIX.1-2017, pax, "ustar Interchange Format"). */
async function firstHeader(take: Take, file: string): Promise<Header> {
  for (;;) {
    const header = await take(BLOCK);
    // Two blocks of zeros end an archive. The engine leaves sockets out, so the archive of a socket has no members.
    if (header.every((byte) => byte === 0)) return { type: 'none', size: 0 };
    const field = (from: number, length: number) =>
      header
        .toString('latin1', from, from + length)
        .replace(/\0.*$/s, '')
        .trim();
    const size = Number.parseInt(field(124, 12) || '0', 8);
    const type = field(156, 1) || '0';
    // Names and times that do not fit in the header precede it as extra records.
    if ('xgLK'.includes(type)) {
      await take(sized(size, 1024 * 1024, file, BLOCK));
      continue;
    }
    if (type === '2') return { link: header.toString('utf8', 157, 257).replace(/\0.*$/s, '') };
    return { type, size };
  }
}

async function firstEntry(
  archive: Readable,
  limit: number,
  file: string,
): Promise<Buffer | { link: string } | undefined> {
  const take = taker(archive);
  const header = await firstHeader(take, file);
  if ('link' in header) return header;
  return header.type === '0' ? take(sized(header.size, limit, file, 1)) : undefined;
}

function sized(size: number, limit: number, file: string, unit: number): number {
  if (size >= 0 && size <= limit) return Math.ceil(size / unit) * unit;
  throw new LifeboatError('ENGINE_PROTOCOL', `${file} in the container is larger than ${limit} bytes`);
}

/** Returns a function that takes the given number of bytes from a stream. */
function taker(stream: Readable): Take {
  const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let held = Buffer.alloc(0);
  return async (bytes) => {
    while (held.length < bytes) {
      const { value, done } = await chunks.next();
      if (done) throw new LifeboatError('ENGINE_PROTOCOL', 'the engine sent an incomplete archive');
      held = Buffer.concat([held, value]);
    }
    const taken = held.subarray(0, bytes);
    held = held.subarray(bytes);
    return taken;
  };
}
