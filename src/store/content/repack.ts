import { createReadStream } from 'node:fs';
import { PACK_KEY, readLines, valueAfter } from '../filesystem/read-index.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import { EMPTY_ZIP, headersSize } from '../packs/zip.ts';

/** Upper bound of the content that one run stores again for a source, bytes. */
const AT_ONCE = 256 * 1024 * 1024;

/** A source that has more packs than this, */
const MANY_SMALL = 1000;
/** each smaller than this, gets them merged. Bytes of the zip. */
const SMALL = 8 * 1024 * 1024;

/** When packs are renewed. */
export interface RenewalRule {
  /** share of the bytes of a source's packs that may be unused, 0 to 1 */
  maxUnused: number;
  /** a pack stays if a larger share of it than this is in use, 0 to 1 */
  minUse: number;
}

/** Storage classes with a minimum storage time: what is deleted earlier is paid for all the same. */
const MINIMUM_TIME = /(^|_)(IA|IR)$|GLACIER|ARCHIVE/;

/**
 * Returns the rule for a destination: packs are worth storing again if less than 80 % of them is in use, or 50 % in an
 * S3 storage class with a minimum storage time.
 *
 * @param maxUnused `LIFEBOAT_MAX_UNUSED`, 0 to 1
 */
export function renewalRule(maxUnused: number, storageClass?: string): RenewalRule {
  return { maxUnused, minUse: storageClass !== undefined && MINIMUM_TIME.test(storageClass) ? 0.5 : 0.8 };
}

/** A pack, with how much of it is in use. */
interface UsedPack extends Pick<PackRef, 'id' | 'size' | 'plainSize'> {
  /** bytes of the zip that the newest snapshot uses; absent: unknown */
  used?: number | undefined;
}

/** Packs that are worth storing again. Sizes in bytes. */
interface Renewal {
  ids: Set<string>;
  /** content to store again, before compression */
  again: number;
  /** stored size of these packs */
  packs: number;
}

/**
 * Chooses the packs of a source whose content in use is worth storing again. Packs never change, so one used file keeps
 * a whole pack. Once the run has stored such files again, the pack is deleted with the last old snapshot that names it.
 * A pack that an older snapshot uses stays, because storing its content twice frees nothing while that snapshot exists.
 * The packs with the smallest share in use come first, until few enough bytes are unused.
 *
 * Very many small packs are merged as well, the smallest first, even if older snapshots use them. Each run of an hourly
 * schedule adds one or two, and each costs requests. Content is merged once only, because the new pack is large.
 *
 * @param packs the packs of the newest snapshot
 * @param useOf returns how many bytes of each of these packs any snapshot uses, by id; undefined: unknown
 */
export async function choosePacksToRenew(
  packs: readonly UsedPack[],
  useOf: (ids: ReadonlySet<string>) => Promise<ReadonlyMap<string, number> | undefined>,
  rule: RenewalRule,
  atOnce = AT_ONCE,
): Promise<Renewal> {
  const renewal: Renewal = { ids: new Set(), again: 0, packs: 0 };
  await chooseUnused(renewal, packs, useOf, { rule, atOnce });
  const small = packs.filter(({ plainSize }) => plainSize < SMALL).sort((a, b) => a.plainSize - b.plainSize);
  const isMerging = small.length > MANY_SMALL && rule.maxUnused < 1;
  for (const pack of isMerging ? small : []) if (!renewal.ids.has(pack.id) && !take(renewal, pack, atOnce)) break;
  return renewal;
}

/** Returns the packs for which {@link choosePacksToRenew} may need to know what older snapshots use. */
export function mayBeRenewed<Pack extends UsedPack>(packs: readonly Pack[], { minUse }: RenewalRule): Pack[] {
  return packs.filter((pack) => shareOf(pack, pack.used) < minUse);
}

/** Adds a pack to those to renew. Returns false if that is too much for one run. */
function take(renewal: Renewal, pack: UsedPack, atOnce: number): boolean {
  const again = pack.used ?? pack.plainSize;
  if (renewal.again + again > atOnce) return false;
  renewal.ids.add(pack.id);
  renewal.again += again;
  renewal.packs += pack.size;
  return true;
}

async function chooseUnused(
  renewal: Renewal,
  packs: readonly UsedPack[],
  useOf: Parameters<typeof choosePacksToRenew>[1],
  { rule, atOnce }: { rule: RenewalRule; atOnce: number },
): Promise<void> {
  const total = packs.reduce((sum, { size }) => sum + size, 0);
  const tolerated = total * rule.maxUnused;
  // The newest snapshot alone is known without reading anything, and uses the least.
  const suspects = mayBeRenewed(packs, rule);
  if (unusedIn(packs, ({ used }) => used) <= tolerated || suspects.length === 0) return;
  const use = await useOf(new Set(suspects.map(({ id }) => id)));
  if (use === undefined) return;
  const most = (pack: UsedPack) => Math.max(pack.used ?? pack.plainSize, use.get(pack.id) ?? 0);
  const share = (pack: UsedPack) => shareOf(pack, most(pack));
  let unused = unusedIn(packs, (pack) => (shareOf(pack, pack.used) < rule.minUse ? most(pack) : pack.used));
  for (const pack of suspects.filter((one) => share(one) < rule.minUse).sort((a, b) => share(a) - share(b))) {
    if (unused <= tolerated || !take(renewal, pack, atOnce)) break;
    unused -= pack.size * (1 - share(pack));
  }
}

/** Returns the share of a pack that is in use, 0 to 1. */
function shareOf({ plainSize }: UsedPack, used = plainSize): number {
  return Math.min(used / plainSize, 1);
}

/** Returns how many stored bytes of packs are unused. */
function unusedIn(packs: readonly UsedPack[], usedOf: (pack: UsedPack) => number | undefined): number {
  return packs.reduce((sum, pack) => sum + pack.size * (1 - shareOf(pack, usedOf(pack))), 0);
}

// Inside a JSON string the quotes would be escaped, so these bytes can only be keys.
const ENTRY_KEY = Buffer.from('"entry":"');
const SIZE_KEY = Buffer.from('"size":');

/**
 * Returns the size of the content that an index uses of each pack, by id, bytes. Headers count as well: in a pack of
 * tiny files, they take most of the space. Content that several files or parts share counts once for each of them, so a
 * pack can seem fuller than it is.
 *
 * @param indexPath a plain local file
 */
export async function measureUse(indexPath: string): Promise<Map<string, number>> {
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
