import { createReadStream } from 'node:fs';
import { storedSize } from '../filesystem/data-ranges.ts';
import { decodeIndexEntry, readLines } from '../filesystem/index-file.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import { valueAfter } from './known.ts';

/** What packs hold may come to that much more than what a source needs of them before anything is done about it. */
const TOLERATED = 1.25;
/** A pack of which less than this share is needed is given up. */
const MOSTLY_DEAD = 0.25;
/** How much is stored anew in one run at most, bytes. */
const AT_ONCE = 256 * 1024 * 1024;

// Inside a JSON string the quotes would carry a backslash, so that these can only be keys.
const PACK_KEY = Buffer.from('"pack":"');
const SIZE_KEY = Buffer.from('"size":');
const RANGES_KEY = Buffer.from('"ranges":');

/**
 * The packs of a source that hold mostly what it has no more, by id. A pack is never changed, and one file that stays keeps
 * all of it: when the run stores such files anew, the pack goes with the last old snapshot that names it. Only a part of
 * them is named at a time, those with the least in use first.
 *
 * @param indexPath the index of the newest snapshot, as a plain local file
 * @param packs those that it uses
 */
export async function packsToRenew(
  indexPath: string,
  packs: readonly PackRef[],
  atOnce = AT_ONCE,
): Promise<Set<string>> {
  const renewed = new Set<string>();
  const held = packs.reduce((sum, { plainSize }) => sum + plainSize, 0);
  const used = await usedBytes(indexPath);
  const needed = packs.reduce((sum, { id }) => sum + (used.get(id) ?? 0), 0);
  if (held <= needed * TOLERATED) return renewed;
  const share = ({ id, plainSize }: PackRef) => (used.get(id) ?? 0) / plainSize;
  const dead = packs.filter((pack) => share(pack) < MOSTLY_DEAD).sort((a, b) => share(a) - share(b));
  let left = atOnce;
  for (const { id } of dead) {
    left -= used.get(id) ?? 0;
    if (left < 0) break;
    renewed.add(id);
  }
  return renewed;
}

/** Bytes of files, without their holes, by the pack that holds them. A content that several files have counts for each: the pack then seems fuller. */
async function usedBytes(indexPath: string): Promise<Map<string, number>> {
  const used = new Map<string, number>();
  for await (const line of readLines(createReadStream(indexPath, { highWaterMark: 256 * 1024 }))) {
    const pack = valueAfter(line, PACK_KEY, 32);
    if (pack === undefined) continue;
    const size = line.includes(RANGES_KEY)
      ? storedSize(decodeIndexEntry(line))
      : Number.parseInt(valueAfter(line, SIZE_KEY, 16) ?? '0', 10);
    used.set(pack, (used.get(pack) ?? 0) + size);
  }
  return used;
}
