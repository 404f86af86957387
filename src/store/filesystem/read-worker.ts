import { parentPort } from 'node:worker_threads';
import { readSmall, type SmallRead } from './read-file.ts';

/** Files to read, in one message: a message for each file would cost more than reading it. */
export interface ReadRequest {
  /** paths with one character per byte, each ended by NUL: one string is passed to a thread faster than many buffers */
  paths: string;
  /** expected size of all files together, bytes */
  size: number;
  /** larger files are not read, bytes */
  limit: number;
}

/** The results, in the order of the request. Errors cross threads as their messages. */
export type ReadAnswer = (Exclude<SmallRead, { outcome: 'unreadable' }> | { outcome: 'unreadable'; message: string })[];

parentPort?.on('message', (request: ReadRequest) => {
  const room = new ArrayBuffer(request.size);
  const buffers = new Set<ArrayBuffer>([room]);
  let used = 0;
  // All contents share one buffer, except for files that have grown since they were listed.
  const allocate = (size: number) => {
    if (used + size <= room.byteLength) {
      used += size;
      return new Uint8Array(room, used - size, size);
    }
    const own = new Uint8Array(size);
    buffers.add(own.buffer);
    return own;
  };
  const answer: ReadAnswer = request.paths
    .slice(0, -1)
    .split('\0')
    .map((path) => {
      const read = readSmall(Buffer.from(path, 'latin1'), request.limit, allocate);
      return read.outcome === 'unreadable' ? { outcome: read.outcome, message: read.error.message } : read;
    });
  parentPort?.postMessage(answer, [...buffers]);
});
