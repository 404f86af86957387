import { readSync, writeSync } from 'node:fs';

/** Writes all bytes at an offset of an open file. One system call may write only some of them. */
export function writeAll(file: number, bytes: Buffer, at: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done, bytes.length - done, at + done);
}

/**
 * Fills a buffer from an offset of an open file. Returns how many bytes were read: fewer only at the end of the file.
 */
export function readAll(file: number, into: Buffer, at: number): number {
  let done = 0;
  while (done < into.length) {
    const read = readSync(file, into, done, into.length - done, at + done);
    if (read === 0) break;
    done += read;
  }
  return done;
}
