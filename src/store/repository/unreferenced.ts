import { z } from 'zod';
import type { Destination, ObjectInfo } from '../../destinations/destination.ts';
import { compareKeys } from '../../destinations/keys.ts';
import { MAX_DOCUMENT } from '../objects/bounds.ts';
import { canonicalJson, FORMAT } from '../objects/manifest.ts';
import { deleteUnlessKept, readEvenDamaged, streamOf } from '../objects/objects.ts';
import { newSnapshotId, parseSnapshotId } from '../objects/snapshot-id.ts';

/**
 * Objects that no manifest names are deleted in two passes. The first pass records when it saw them, in one object
 * `<project>/unreferenced/<time>.json`. A pass that runs long enough afterwards deletes them if still no manifest names
 * them.
 */

/** By key, when each object was first found to be named by no manifest (milliseconds since 1970). */
export type Unreferenced = Map<string, number>;

const list = z.object({
  format: z.literal(FORMAT),
  at: z.iso.datetime(),
  objects: z.record(z.string(), z.iso.datetime()),
});

const SEALED = '(?:\\.zst)?(?:\\.age|\\.gpg)?';
const PACK = new RegExp(`^packs/[^/]+/([0-9a-f]{2})/\\1[0-9a-f]{30}\\.zip${SEALED}$`);
const PART = new RegExp(`^snapshots/([^/]+)/[^/]+\\.(?:index\\.ndjson|packs\\.ndjson|facts\\.json)${SEALED}$`);

/**
 * Returns true for the key of a project's pack, index, facts or list of packs. A prune deletes no other unreferenced
 * objects.
 */
function isContent(project: string, key: string): boolean {
  if (!key.startsWith(`${project}/`)) return false;
  const name = key.slice(project.length + 1);
  if (PACK.test(name)) return true;
  const id = PART.exec(name)?.[1];
  return id !== undefined && parseSnapshotId(id) !== undefined;
}

/** Lists the packs, indexes, facts and lists of packs of a project, with their sizes. */
export async function* listContent(destination: Destination, project: string): AsyncGenerator<ObjectInfo> {
  for (const part of ['packs', 'snapshots']) {
    for await (const object of destination.list(`${project}/${part}/`))
      if (isContent(project, object.key)) yield object;
  }
}

/** Returns the keys of lists that are unreadable or malformed. */
export async function damagedLists(destination: Destination, project: string): Promise<string[]> {
  const damaged: string[] = [];
  for (const key of await listKeys(destination, project)) {
    const found = await readEvenDamaged(destination, key, { limit: MAX_DOCUMENT });
    if (found && !(found.bytes && decode(found.bytes.toString('utf8')))) damaged.push(key);
  }
  return damaged;
}

/** Reads the newest list. An unreadable list counts as empty, because waiting another day is the safe choice. */
export async function readUnreferenced(destination: Destination, project: string): Promise<Unreferenced> {
  const key = (await listKeys(destination, project)).at(-1);
  const found = key === undefined ? undefined : await readEvenDamaged(destination, key, { limit: MAX_DOCUMENT });
  return (found?.bytes && decode(found.bytes.toString('utf8'))) || new Map();
}

/** Returns whether the newest list equals `all`, see {@link asMuchAsFits}, so that no new one is necessary. */
export async function isRecorded(destination: Destination, project: string, all: Unreferenced): Promise<boolean> {
  return sameAs(asMuchAsFits(all, MAX_DOCUMENT - HEAD_BYTES), await readUnreferenced(destination, project));
}

/**
 * Puts a new list, see {@link asMuchAsFits}, and removes the older ones. Puts no list that equals the newest. Puts an
 * empty list only if the last one cannot be removed.
 */
export async function writeUnreferenced(
  destination: Destination,
  project: string,
  all: Unreferenced,
  now: Date,
): Promise<void> {
  const unreferenced = asMuchAsFits(all, MAX_DOCUMENT - HEAD_BYTES);
  const before = await listKeys(destination, project);
  const same = sameAs(unreferenced, await readUnreferenced(destination, project));
  const putList = async () => {
    const objects = Object.fromEntries([...unreferenced].map(([key, at]) => [key, new Date(at).toISOString()]));
    const text = `${canonicalJson({ format: FORMAT, at: now.toISOString(), objects })}\n`;
    await destination.put(`${project}/unreferenced/${newSnapshotId(now)}.json`, streamOf(text));
  };
  if (unreferenced.size > 0 && !same) await putList();
  const old = unreferenced.size > 0 && same ? before.slice(0, -1) : before;
  for (const key of old) {
    if (await deleteUnlessKept(destination, key)) continue;
    // Its entries would count as seen long ago if one of these objects became unreferenced again.
    if (unreferenced.size === 0 && !same) await putList();
    return;
  }
}

/** Upper bound of the bytes of a list apart from its entries. */
const HEAD_BYTES = 1024;
/** The bytes of an entry apart from its key: quotes, colon, time, comma. */
const ENTRY_BYTES = 30;

/**
 * Returns the objects that were seen first, as many as a list of `limit` bytes can hold. A later prune records the
 * others.
 */
export function asMuchAsFits(all: Unreferenced, limit: number): Unreferenced {
  const sizeOf = (key: string) => Buffer.byteLength(JSON.stringify(key)) + ENTRY_BYTES;
  let left = limit;
  for (const key of all.keys()) left -= sizeOf(key);
  if (left >= 0) return all;
  left = limit;
  const fitting: Unreferenced = new Map();
  for (const [key, at] of [...all].sort(([, a], [, b]) => a - b)) {
    left -= sizeOf(key);
    if (left < 0) break;
    fitting.set(key, at);
  }
  return fitting;
}

/** Returns the keys of all lists, the oldest first. */
async function listKeys(destination: Destination, project: string): Promise<string[]> {
  const prefix = `${project}/unreferenced/`;
  const keys: string[] = [];
  for await (const { key } of destination.list(prefix)) {
    if (key.endsWith('.json') && parseSnapshotId(key.slice(prefix.length, -'.json'.length))) keys.push(key);
  }
  // Some servers list in another order.
  return keys.sort(compareKeys);
}

function sameAs(a: Unreferenced, b: Unreferenced): boolean {
  return a.size === b.size && [...a].every(([key, at]) => b.get(key) === at);
}

function decode(text: string): Unreferenced | undefined {
  try {
    const { objects } = list.parse(JSON.parse(text));
    return new Map(Object.entries(objects).map(([key, at]) => [key, Date.parse(at)]));
  } catch {
    return undefined;
  }
}
