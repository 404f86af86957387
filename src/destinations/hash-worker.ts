import { createHash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import { readPastCache } from './direct-read.ts';

/**
 * The size and hash of a file, and whether its bytes came from the disk, or why it could not be read. `alive` messages
 * come before, while the file is being read.
 */
export type HashAnswer =
  | { alive: true }
  | { size: number; sha256: string; direct: boolean }
  | { code: string | undefined; message: string };

/** Bytes between two `alive` messages. */
const SAY_EVERY = 64 * 1024 * 1024;

parentPort?.on('message', (file: string) => {
  parentPort?.postMessage(hashFile(file));
});

function hashFile(file: string): HashAnswer {
  try {
    let hash = createHash('sha256');
    let size = 0;
    const on = (piece: Buffer) => {
      hash.update(piece);
      if (Math.floor((size + piece.length) / SAY_EVERY) > Math.floor(size / SAY_EVERY)) {
        parentPort?.postMessage({ alive: true } satisfies HashAnswer);
      }
      size += piece.length;
    };
    const restart = () => {
      hash = createHash('sha256');
      size = 0;
    };
    const direct = readPastCache(file, on, restart);
    return { size, sha256: hash.digest('hex'), direct };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { code, message };
  }
}
