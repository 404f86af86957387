import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';

/** The name of the file until it is whole. No program reads it. */
const TEMPORARY = 'beginning.tmp';
/** The zeros that are written at once, bytes. */
const BLOCK = 1024 * 1024;

/**
 * Makes the file at which `pg_receivewal` begins: an incomplete segment of which nothing is received yet. The program
 * asks for the WAL from the beginning of that segment on, on the timeline that the name of the file says (receivelog.c,
 * pg_receivewal.c: FindStreamingStart). Without a file, it begins where the slot begins, and before Postgres 15 where
 * the server writes.
 *
 * The file appears at once, and whole: the program refuses one that is shorter than a segment.
 *
 * @param name of the segment; `size`: of a segment, bytes
 */
export async function beginSegment(directory: string, name: string, size: number): Promise<void> {
  const temporary = path.join(directory, TEMPORARY);
  await rm(temporary, { recursive: true, force: true });
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  const handle = await open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    const zeros = Buffer.alloc(Math.min(BLOCK, size));
    for (let at = 0; at < size; at += zeros.length) await handle.write(zeros, 0, zeros.length, at);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path.join(directory, `${name}.partial`));
}
