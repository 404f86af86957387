import { createWriteStream } from 'node:fs';
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { hasErrno, LifeboatError } from '../../base/errors.ts';

/** Space that every import leaves free on the disk of the spool, for other programs. Bytes. */
const RESERVE = 64 * 1024 * 1024;
/** Bytes written between two checks of the free space. */
const CHECK_EVERY = 32 * 1024 * 1024;

/** Watches the free space of a directory in the spool while an import is written to it. */
export class SpoolSpace {
  private readonly directory: string;
  private readonly what: string;
  private readonly reserve: number;
  private unchecked = CHECK_EVERY;

  /**
   * @param what names the data that is written: `the content of the archive`
   * @param reserve bytes; only tests set another value
   */
  constructor(directory: string, what: string, reserve = RESERVE) {
    this.directory = directory;
    this.what = what;
    this.reserve = reserve;
  }

  /** Counts bytes before they are written. @throws SPOOL_FULL when too little space remains */
  async take(bytes: number): Promise<void> {
    this.unchecked += bytes;
    if (this.unchecked < CHECK_EVERY) return;
    this.unchecked = 0;
    const { bavail, bsize } = await statfs(this.directory);
    if (bavail * bsize < this.reserve + CHECK_EVERY) throw this.full();
  }

  /** Turns the error of a full disk into SPOOL_FULL. Returns other errors unchanged. */
  explain(error: unknown): unknown {
    return hasErrno(error, 'ENOSPC', 'EDQUOT') ? this.full(error) : error;
  }

  private full(cause?: unknown): LifeboatError {
    return new LifeboatError('SPOOL_FULL', `the spool has no room for ${this.what}`, {
      ...(cause === undefined ? {} : { cause }),
      hint: 'Make room on the disk of the volume mounted at /spool: an import needs its uncompressed size there. If you expect it to be small, do not trust it.',
    });
  }
}

interface SpoolFile {
  mode: number;
  /** names the data that is written, for errors */
  what: string;
  signal?: AbortSignal;
  /** bytes that stay free; only tests set another value */
  reserve?: number;
}

/** Writes a new file in the spool. @throws SPOOL_FULL; the errors of the source; the signal's reason */
export async function writeSpoolFile(
  source: AsyncIterable<Buffer>,
  file: string,
  { mode, what, signal, reserve }: SpoolFile,
): Promise<void> {
  const space = new SpoolSpace(path.dirname(file), what, reserve);
  async function* counted(): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      await space.take(chunk.length);
      yield chunk;
    }
  }
  try {
    await pipeline(counted, createWriteStream(file, { flags: 'wx', mode }), signal ? { signal } : {});
  } catch (error) {
    throw space.explain(error);
  }
}
