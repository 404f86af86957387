import { Readable } from 'node:stream';

/** If a socket accepts one piece within the silence limit, it is slow, but not broken. Bytes. */
const PIECE = 256 * 1024;

/** Streams bytes in pieces, because a single large write shows no progress. `taken` is called before each piece. */
export function inPieces(content: Buffer, taken: () => void): Readable {
  let at = 0;
  return new Readable({
    highWaterMark: PIECE,
    read() {
      taken();
      this.push(at < content.length ? content.subarray(at, at + PIECE) : null);
      at += PIECE;
    },
  });
}
