import { Readable } from 'node:stream';

/** A tar consists of blocks of this size, bytes. */
const BLOCK = 512;

/**
 * Returns the tar of `pg_basebackup` with a complete last block. Before Postgres 15, the program does not pad the
 * manifest that it adds at the end (pg_basebackup.c, ReceiveTarFile). A tar that was cut does not become whole: the
 * program fails then, or the manifest is missing.
 */
export function padTar(tar: Readable): Readable {
  async function* padded(): AsyncGenerator<Buffer> {
    let size = 0;
    for await (const chunk of tar as AsyncIterable<Buffer>) {
      size += chunk.length;
      yield chunk;
    }
    if (size % BLOCK !== 0) yield Buffer.alloc(BLOCK - (size % BLOCK));
  }
  return Readable.from(padded(), { objectMode: false });
}
