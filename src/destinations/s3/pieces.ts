import { Readable } from 'node:stream';

/** A socket that takes one in the time that a server may say nothing is slow, and not broken. */
const PIECE = 256 * 1024;

/** Bytes to be sent, in pieces: a single large write would tell nobody how far it is. `taken` is called before each piece. */
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
