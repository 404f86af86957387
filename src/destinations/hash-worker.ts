import { createHash } from 'node:crypto';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';

/**
 * The size and hash of a file, or why it could not be read. `alive` messages come before, while the file is being read.
 */
export type HashAnswer =
  | { alive: true }
  | { size: number; sha256: string }
  | { code: string | undefined; message: string };

/** Bytes between two `alive` messages. */
const SAY_EVERY = 64 * 1024 * 1024;

const buffer = Buffer.allocUnsafeSlow(1024 * 1024);

parentPort?.on('message', (file: string) => {
  parentPort?.postMessage(hashFile(file));
});

function hashFile(file: string): HashAnswer {
  try {
    const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const hash = createHash('sha256');
      let size = 0;
      for (;;) {
        const read = readSync(fd, buffer);
        if (read === 0) return { size, sha256: hash.digest('hex') };
        hash.update(buffer.subarray(0, read));
        if (Math.floor((size + read) / SAY_EVERY) > Math.floor(size / SAY_EVERY)) {
          parentPort?.postMessage({ alive: true } satisfies HashAnswer);
        }
        size += read;
      }
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { code, message };
  }
}
