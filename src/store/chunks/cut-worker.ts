import { parentPort } from 'node:worker_threads';
import { ChunkWindow, type Cut } from './chunk-window.ts';

/**
 * A request to the thread: add a piece to its window, end the range, or forget the rest. `piece`: shared memory, of
 * which `length` bytes are data.
 */
export type CutRequest = { piece: SharedArrayBuffer; length: number } | 'end of range' | 'reset';

const window = new ChunkWindow();

// The answer to each request is a list of chunks, in the order of the requests.
parentPort?.on('message', (request: CutRequest) => parentPort?.postMessage(answerTo(request)));

function answerTo(request: CutRequest): Cut[] {
  if (request === 'reset') {
    window.clear();
    return [];
  }
  const cuts =
    request === 'end of range' ? window.endRange() : window.add(Buffer.from(request.piece, 0, request.length));
  // The thread that asks has the bytes.
  return cuts.map(({ size, sha256 }) => ({ size, sha256 }));
}
