import { hash } from 'node:crypto';

/** Sizes of chunks, bytes. Only the last chunk of a range of data is smaller than the minimum. */
export const MIN_CHUNK = 256 * 1024;
export const MAX_CHUNK = 4 * 1024 * 1024;
/** From this size on, a chunk ends more easily. Chunks of random bytes have 0.9 MiB on average. */
const NORMAL_CHUNK = 1024 * 1024;

/**
 * A chunk ends where the highest 20 bits of the hash are zero, or the highest 18 once it has its normal size. With 22
 * and 18 bits, sizes would vary less, but after an insertion, it would take twice as long until ends are the same.
 */
const HARD_MASK = -1 << (32 - 20);
const EASY_MASK = -1 << (32 - 18);
/** The hash depends on this many bytes. */
const WINDOW = 32;

/**
 * A random number for each value of a byte. The numbers never change: content that is stored already would no longer be
 * found. docs/security.md says why they are not secret.
 */
const GEAR = Int32Array.from({ length: 256 }, (_, i) => hash('sha256', `lifeboat gear ${i}`, 'buffer').readInt32BE(0));

/**
 * Returns where the chunk that begins at `start` ends, by its content alone: after an insertion or deletion, the next
 * chunks soon end at the same bytes as before. This is FastCDC with normalised chunking (Xia et al., USENIX ATC 2016,
 * sections 3.3 to 3.5), with a hash of 32 bits.
 *
 * @param bytes from `start` to `end`, at least {@link MAX_CHUNK} bytes, or everything up to the end of the data
 */
export function endOfChunk(bytes: Uint8Array, start: number, end: number): number {
  const smallest = start + MIN_CHUNK;
  if (smallest >= end) return end;
  const normal = Math.min(start + NORMAL_CHUNK, end);
  const largest = Math.min(start + MAX_CHUNK, end);
  return findEnd(bytes, smallest, normal, HARD_MASK) ?? findEnd(bytes, normal, largest, EASY_MASK) ?? largest;
}

/**
 * Returns the end of the first window between two offsets whose hash is zero under a mask. Reads four bytes at a time,
 * the least significant one first, as x86-64 and ARM do: byte by byte takes nearly twice as long.
 */
function findEnd(bytes: Uint8Array, from: number, to: number, mask: number): number | undefined {
  const gear = GEAR;
  let sum = 0;
  let at = from - WINDOW;
  while (at < from) sum = ((sum << 1) + gear[bytes[at++]!]!) | 0;
  for (; at < to && ((bytes.byteOffset + at) & 3) !== 0; ) {
    sum = ((sum << 1) + gear[bytes[at++]!]!) | 0;
    if ((sum & mask) === 0) return at;
  }
  const words = new Uint32Array(bytes.buffer, at < to ? bytes.byteOffset + at : 0, Math.max(0, to - at) >> 2);
  for (let i = 0; i < words.length; i++, at += 4) {
    const word = words[i]!;
    const first = ((sum << 1) + gear[word & 0xff]!) | 0;
    const second = ((first << 1) + gear[(word >>> 8) & 0xff]!) | 0;
    const third = ((second << 1) + gear[(word >>> 16) & 0xff]!) | 0;
    sum = ((third << 1) + gear[word >>> 24]!) | 0;
    if ((first & mask) === 0) return at + 1;
    if ((second & mask) === 0) return at + 2;
    if ((third & mask) === 0) return at + 3;
    if ((sum & mask) === 0) return at + 4;
  }
  while (at < to) {
    sum = ((sum << 1) + gear[bytes[at++]!]!) | 0;
    if ((sum & mask) === 0) return at;
  }
  return undefined;
}
