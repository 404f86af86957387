import type { Readable } from 'node:stream';
import { extract, type Header } from 'tar-stream';
import { LifeboatError } from '../../base/errors.ts';
import { shortPath } from '../filesystem/path.ts';
import type { ArchiveMember } from './archive-member.ts';
import { refused, unreadable } from './import-errors.ts';
import { decodeOddNames, PAX_KEYWORD } from './names.ts';
import { readPaxAsBytes } from './pax-records.ts';
import { BLOCK } from './tar.ts';

const TYPES: Record<string, ArchiveMember['type']> = {
  file: 'file',
  'contiguous-file': 'file',
  directory: 'directory',
  symlink: 'symlink',
  link: 'hardlink',
};

/**
 * Reads the members of a tar (ustar, pax and GNU) in order. A tar that is cut is an error, even between two members,
 * because a complete one ends with blocks of zeros.
 *
 * @throws IMPORT_UNREADABLE; IMPORT_REFUSED for files that GNU tar's --sparse writes; the errors of the stream
 */
export async function* readTar(stream: Readable): AsyncGenerator<ArchiveMember> {
  // Names are read as bytes, one character for each.
  const reading = (extract as (options: { filenameEncoding: string }) => ReturnType<typeof extract>)({
    filenameEncoding: 'latin1',
  });
  readPaxAsBytes(reading);
  let last: Buffer = Buffer.alloc(0);
  let failure: unknown;
  const why = (error: unknown) =>
    failure ?? (error instanceof LifeboatError ? error : unreadable('the tar cannot be read', error));
  async function* explained(content: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      yield* content;
    } catch (error) {
      throw why(error);
    }
  }
  const feeding = (async () => {
    try {
      for await (const chunk of stream) {
        const data = chunk as Buffer;
        last = data.length >= BLOCK ? data.subarray(-BLOCK) : Buffer.concat([last, data]).subarray(-BLOCK);
        if (reading.destroyed) return;
        if (!reading.write(data)) await new Promise<void>((resolve) => onceAny(reading, ['drain', 'close'], resolve));
      }
      (reading as unknown as { end(): void }).end();
    } catch (error) {
      failure = error;
      reading.destroy(error as Error);
    }
  })();
  try {
    for await (const entry of reading) {
      yield memberOf(entry.header, explained(entry as unknown as AsyncIterable<Buffer>));
      (entry as unknown as Readable).resume();
    }
  } catch (error) {
    throw why(error);
  } finally {
    reading.destroy();
    stream.destroy();
    await feeding;
  }
  if (failure) throw failure;
  if (last.length < BLOCK || last.some((byte) => byte !== 0)) throw unreadable('the tar is cut: its end is missing');
}

function onceAny(emitter: ReturnType<typeof extract>, events: readonly ('drain' | 'close')[], work: () => void): void {
  const done = () => {
    for (const event of events) emitter.off(event, done);
    work();
  };
  for (const event of events) emitter.on(event, done);
}

function memberOf(header: Header, content: AsyncIterable<Buffer>): ArchiveMember {
  const pax = (header.pax ?? {}) as Record<string, string>;
  const isSparse = header.type === null || Object.keys(pax).some((key) => key.startsWith('GNU.sparse.'));
  if (isSparse) {
    throw refused(
      `the tar holds ${shortPath(header.name)} in a form that Lifeboat cannot import, such as that of --sparse`,
      {
        hint: 'Unpack it with tar, and pack it again without --sparse.',
      },
    );
  }
  const odd = decodeOddNames(pax[PAX_KEYWORD] ?? '') ?? {};
  const name = odd.path ?? (pax.path || header.name);
  const type = TYPES[header.type ?? ''] ?? 'other';
  const id = (kind: 'uid' | 'gid') => {
    const value = whole(pax[kind]) ?? header[kind] ?? 0;
    if (Number.isInteger(value) && value >= 0 && value < MAX_ID) return value;
    throw refused(`the tar has ${shortPath(name)} with a ${kind} that Linux does not have`);
  };
  return {
    name,
    type,
    mode: (Number.isInteger(header.mode) ? (header.mode ?? 0) : 0o644) & 0o7777,
    uid: id('uid'),
    gid: id('gid'),
    mtime: nanoseconds(pax.mtime) ?? BigInt(Math.trunc(header.mtime?.getTime() || 0)) * 1_000_000n,
    size: header.size ?? 0,
    ...(type === 'symlink' || type === 'hardlink'
      ? { target: odd.target ?? (pax.linkpath || header.linkname || '') }
      : {}),
    content: () => content,
  };
}

/** The highest id has the meaning "unchanged" (chown(2)). */
const MAX_ID = 2 ** 32 - 1;

function whole(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}

/** `-1.5` → -1500000000n */
function nanoseconds(text: string | undefined): bigint | undefined {
  const match = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(text ?? '');
  if (!match) return undefined;
  const [, sign, seconds = '0', fraction = ''] = match;
  const value = BigInt(seconds) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, '0'));
  return sign === '-' ? -value : value;
}
