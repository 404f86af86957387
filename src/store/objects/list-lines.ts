import { LifeboatError } from '../../base/errors.ts';

/** The lines of lists of packs, see pack-list.ts. */

/** The start of a line, up to the id of the pack. */
export const BEFORE_ID = Buffer.from('{"id":"');
export const ID_DIGITS = 32;
const LINE_FEED = 0x0a;
const NOTHING = Buffer.alloc(0);
/** About the length of a line, bytes. */
const FIRST_STEP = 256;

/**
 * Yields the lines of a list that an earlier list does not have at the same place of their order. Whole stretches that
 * both have are compared at once: a thousand snapshots that share their packs have a thousand times as many lines as
 * there are packs.
 *
 * @param key of the list, for messages
 * @param earlier a list that was decoded, or nothing
 * @throws OBJECT_DAMAGED if the last line is cut
 */
export function* linesBesides(bytes: Buffer, key: string, earlier: Buffer = NOTHING): Generator<Buffer> {
  let [from, at] = [0, 0];
  for (;;) {
    const same = sameLines(bytes, from, earlier, at);
    from += same;
    at += same;
    if (from === bytes.length) return;
    const end = bytes.indexOf(LINE_FEED, from);
    if (end < 0) throw new LifeboatError('OBJECT_DAMAGED', `${key} ends within a line`);
    const order = compareIds(bytes.subarray(from, end), earlier.subarray(at));
    if (order <= 0) {
      yield bytes.subarray(from, end);
      from = end + 1;
    }
    if (order >= 0) at = earlier.indexOf(LINE_FEED, at) + 1;
  }
}

/** A buffer that is not larger may share its memory with others (`Buffer.poolSize`), and is not worth it, bytes. */
const SMALL = 256 * 1024;

/**
 * Gives back the memory of a list that nobody refers to any more. A thousand lists in a row would otherwise take
 * several hundred megabytes until the engine collects them.
 */
export function freeList({ buffer }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength > SMALL) buffer.transfer(0);
}

/** Returns the length of the whole lines at the beginning of both lists. Both positions are those of lines. */
function sameLines(one: Buffer, from: number, other: Buffer, at: number): number {
  const most = Math.min(one.length - from, other.length - at);
  const isSame = (start: number, end: number) =>
    one.compare(other, at + start, at + end, from + start, from + end) === 0;
  // The stretch has `same` bytes at least, and fewer than `different`.
  let [same, different] = [0, most + 1];
  for (let step = FIRST_STEP; same < most; step *= 2) {
    const end = Math.min(same + step, most);
    if (!isSame(same, end)) {
      different = end;
      break;
    }
    same = end;
  }
  while (different - same > 1) {
    const middle = same + ((different - same) >> 1);
    if (isSame(same, middle)) same = middle;
    else different = middle;
  }
  return same === 0 ? 0 : Math.max(one.lastIndexOf(LINE_FEED, from + same - 1) + 1 - from, 0);
}

/** Compares two lines by the ids at their beginning. Everything comes before the end of a list. */
function compareIds(line: Buffer, rest: Buffer): number {
  if (rest.length === 0) return -1;
  const length = BEFORE_ID.length + ID_DIGITS;
  return Buffer.compare(line.subarray(0, length), rest.subarray(0, length));
}
