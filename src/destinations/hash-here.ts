import { createHash } from 'node:crypto';
import type { Stored } from './destination.ts';
import { readPastCache } from './direct-read.ts';

/** A file as it was read. `direct`: from the disk, and not from the page cache of the system. */
export type Hashed = Stored & { direct: boolean };

/** Bytes between two calls of `alive`. */
const SAY_EVERY = 64 * 1024 * 1024;

/**
 * Reads a file back from the disk and hashes it, in this thread.
 *
 * @param alive called repeatedly while a large file is read
 * @throws the system error
 */
export async function hashHere(file: string | Buffer, alive?: () => void): Promise<Hashed> {
  let hash = createHash('sha256');
  let size = 0;
  const on = (piece: Buffer) => {
    hash.update(piece);
    if (Math.floor((size + piece.length) / SAY_EVERY) > Math.floor(size / SAY_EVERY)) alive?.();
    size += piece.length;
  };
  const restart = () => {
    hash = createHash('sha256');
    size = 0;
  };
  const direct = await readPastCache(file, on, restart);
  return { size, sha256: hash.digest('hex'), direct };
}
