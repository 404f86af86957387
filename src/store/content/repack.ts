import { createReadStream } from 'node:fs';
import { PACK_KEY, readLines, valueAfter } from '../filesystem/read-index.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import { EMPTY_ZIP, headersSize } from '../packs/zip.ts';

/** Packs are renewed only if they are together more than this many times as large as their content in use. */
const TOLERATED = 1.25;
/** A pack is renewed only if its content in use is smaller than this share of it. */
const MOSTLY_DEAD = 0.25;
/** Upper bound of the content that one run stores again, bytes. */
const AT_ONCE = 256 * 1024 * 1024;

// Inside a JSON string the quotes would be escaped, so these bytes can only be keys.
const ENTRY_KEY = Buffer.from('"entry":"');
const SIZE_KEY = Buffer.from('"size":');

/**
 * Returns the IDs of packs in which most content is no longer in use. Packs are never changed, and a single used file
 * keeps a whole pack. Once the run has stored such files again, the pack is deleted with the last old snapshot that
 * names it. Only some packs are returned at a time, those with the smallest share in use first.
 *
 * @param indexPath the index of the newest snapshot, as a plain local file
 * @param packs the packs that this snapshot uses
 */
export async function packsToRenew(
  indexPath: string,
  packs: readonly PackRef[],
  atOnce = AT_ONCE,
): Promise<Set<string>> {
  const renewed = new Set<string>();
  const held = packs.reduce((sum, { plainSize }) => sum + plainSize, 0);
  const used = await neededBytes(indexPath);
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

/**
 * Returns the size of the content in use of each pack, bytes. Headers count as well: in a pack of tiny files, they take
 * most of the space. Content that several files or parts share counts once for each of them, so a pack can seem fuller
 * than it is.
 */
async function neededBytes(indexPath: string): Promise<Map<string, number>> {
  const used = new Map<string, number>();
  for await (const line of readLines(createReadStream(indexPath, { highWaterMark: 256 * 1024 }))) {
    const pack = valueAfter(line, PACK_KEY, 32);
    if (pack === undefined) continue;
    const size = Number.parseInt(valueAfter(line, SIZE_KEY, 16) ?? '0', 10);
    const headers = headersSize(textLength(line, ENTRY_KEY));
    used.set(pack, (used.get(pack) ?? EMPTY_ZIP) + headers + size);
  }
  return used;
}

/** Returns the length of the text after a key in an index line, bytes. An escaped quote counts twice. */
function textLength(line: Buffer, key: Buffer): number {
  const at = line.indexOf(key);
  if (at < 0) return 0;
  const from = at + key.length;
  let end = line.indexOf('"', from);
  while (end > 0 && line[end - 1] === 0x5c) end = line.indexOf('"', end + 1);
  return Math.max(end, from) - from;
}
