import { close, constants, fchmod, fchown, ftruncate, open, write } from 'node:fs';
import { promisify } from 'node:util';
import type { IndexEntry } from './index-file.ts';

const openAsync = promisify(open);
const writeAsync = promisify(write);
const truncateAsync = promisify(ftruncate);
const chownAsync = promisify(fchown);
const chmodAsync = promisify(fchmod);
const closeAsync = promisify(close);

const OPEN_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const HOLE_SIZE = 4096;
const ZEROS = Buffer.alloc(HOLE_SIZE);

/** Permission bits to restore: without the owner, setuid and setgid would lend the wrong user's rights. */
export function restoredMode(entry: IndexEntry, owner: boolean): number {
  return owner ? entry.mode : entry.mode & 0o1777;
}

/**
 * Writes a new file, with holes where the entry is sparse, and gives it its owner and mode. Returns the bytes written.
 * Never opens or replaces what is there already.
 */
export async function writeNewFile(
  path: Buffer,
  entry: IndexEntry,
  content: AsyncIterable<Buffer> | Iterable<Buffer>,
  owner: boolean,
): Promise<number> {
  const fd = await openAsync(path, OPEN_FLAGS, 0o600);
  try {
    let at = 0;
    for await (const chunk of content) {
      if (entry.sparse) await writeWithHoles(fd, chunk, at);
      else await writeAll(fd, chunk, at);
      at += chunk.length;
    }
    // A hole at the end is only there once the length is set.
    if (entry.sparse) await truncateAsync(fd, at);
    if (owner) await chownAsync(fd, entry.uid, entry.gid);
    await chmodAsync(fd, restoredMode(entry, owner));
    return at;
  } finally {
    await closeAsync(fd);
  }
}

async function writeAll(fd: number, data: Buffer, position: number): Promise<void> {
  for (let done = 0; done < data.length; ) {
    done += (await writeAsync(fd, data, done, data.length - done, position + done)).bytesWritten;
  }
}

/** Skips blocks of zeros, which leaves holes. */
async function writeWithHoles(fd: number, data: Buffer, position: number): Promise<void> {
  let start = 0;
  for (let at = 0; at < data.length; at += HOLE_SIZE) {
    const end = Math.min(at + HOLE_SIZE, data.length);
    if (data.compare(ZEROS, 0, end - at, at, end) !== 0) continue;
    if (start < at) await writeAll(fd, data.subarray(start, at), position + start);
    start = end;
  }
  if (start < data.length) await writeAll(fd, data.subarray(start), position + start);
}
