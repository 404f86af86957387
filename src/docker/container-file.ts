import path from 'node:path';
import type { Readable } from 'node:stream';
import { LifeboatError } from '../base/errors.ts';
import type { CallOptions, Engine } from './engine.ts';
import { isNotFound } from './engine-errors.ts';

const BLOCK = 512;
/** How many symbolic links are followed. */
const MAX_LINKS = 8;

interface ReadFileOptions extends CallOptions {
  /** a longer file is an error, bytes */
  limit?: number;
}

/**
 * Reads a file out of a container's file system, its volumes and binds included, without a process in it: the engine
 * packs it (`GET /containers/<id>/archive`). Symbolic links are followed inside the container. What comes back is a
 * stranger's: at most `limit` bytes of it are read, 64 KiB unless said otherwise.
 *
 * Resolves to undefined when there is no such file, or it is no plain one. A tmpfs of a running container is not seen.
 * Errors: ENGINE_*.
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
 * Finds out what is at a path of a container, its volumes and binds included. Symbolic links are followed inside the
 * container.
 *
 * Resolves to undefined when there is nothing. Errors: ENGINE_*.
 */
export async function kindInContainer(
  engine: Pick<Engine, 'archive'>,
  id: string,
  file: string,
  options: CallOptions = {},
): Promise<'directory' | 'file' | 'other' | undefined> {
  for (let at = file, links = 0; links < MAX_LINKS; links++) {
    const header = await readHeader(engine, id, at, options);
    if (header === undefined) return undefined;
    if (!('link' in header)) return header.type === '5' ? 'directory' : header.type === '0' ? 'file' : 'other';
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

/** What stands in front of a member of a tar archive. */
type Header = { link: string } | { type: string; size: number };

type Take = (bytes: number) => Promise<Buffer>;

/** Reads the first header of a tar archive (POSIX.1-2017, pax, "ustar Interchange Format"). */
async function firstHeader(take: Take, file: string): Promise<Header> {
  for (;;) {
    const header = await take(BLOCK);
    // Two blocks of zeros end an archive. The engine leaves sockets out, so that theirs has no member.
    if (header.every((byte) => byte === 0)) return { type: 'none', size: 0 };
    const field = (from: number, length: number) =>
      header
        .toString('latin1', from, from + length)
        .replace(/\0.*$/s, '')
        .trim();
    const size = Number.parseInt(field(124, 12) || '0', 8);
    const type = field(156, 1) || '0';
    // Names and times that do not fit come first, as records of their own.
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
  throw new LifeboatError(
    'ENGINE_PROTOCOL',
    `${file} in the container is larger than the ${limit} bytes that are read`,
  );
}

/** Takes bytes off a stream, so many at a time. */
function taker(stream: Readable): Take {
  const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let held = Buffer.alloc(0);
  return async (bytes) => {
    while (held.length < bytes) {
      const { value, done } = await chunks.next();
      if (done) throw new LifeboatError('ENGINE_PROTOCOL', 'the engine cut an archive short');
      held = Buffer.concat([held, value]);
    }
    const taken = held.subarray(0, bytes);
    held = held.subarray(bytes);
    return taken;
  };
}
