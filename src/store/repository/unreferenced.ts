import { z } from 'zod';
import type { Destination, ObjectInfo } from '../../destinations/destination.ts';
import { canonicalJson, FORMAT } from '../objects/manifest.ts';
import { deleteUnlessKept, MAX_DOCUMENT, readEvenDamaged, streamOf } from '../objects/objects.ts';
import { newSnapshotId, parseSnapshotId } from '../objects/snapshot-id.ts';

/**
 * Objects that no manifest names are deleted in two passes. The first notes when it saw them, in one object
 * `<project>/unreferenced/<time>.json`; one that runs long enough afterwards, and still finds them named by nobody,
 * deletes them.
 */

/** When each object was first found to be named by no manifest, by key (milliseconds since 1970). */
export type Unreferenced = Map<string, number>;

const list = z.object({
  format: z.literal(FORMAT),
  at: z.iso.datetime(),
  objects: z.record(z.string(), z.iso.datetime()),
});

const SEALED = '(?:\\.zst)?(?:\\.age|\\.gpg)?';
const PACK = new RegExp(`^packs/[^/]+/([0-9a-f]{2})/\\1[0-9a-f]{30}\\.zip${SEALED}$`);
const PART = new RegExp(`^snapshots/([^/]+)/[^/]+\\.(?:index\\.ndjson|facts\\.json)${SEALED}$`);

/** True for a pack, index or facts object of that project, by its name: what manifests name. Nothing else is ever deleted. */
function isContent(project: string, key: string): boolean {
  if (!key.startsWith(`${project}/`)) return false;
  const name = key.slice(project.length + 1);
  if (PACK.test(name)) return true;
  const id = PART.exec(name)?.[1];
  return id !== undefined && parseSnapshotId(id) !== undefined;
}

/** Content objects of a project, with their sizes. */
export async function* listContent(destination: Destination, project: string): AsyncGenerator<ObjectInfo> {
  for (const part of ['packs', 'snapshots']) {
    for await (const object of destination.list(`${project}/${part}/`))
      if (isContent(project, object.key)) yield object;
  }
}

/** The keys of lists that cannot be read, or are none. */
export async function damagedLists(destination: Destination, project: string): Promise<string[]> {
  const damaged: string[] = [];
  for (const key of await listKeys(destination, project)) {
    const bytes = await readEvenDamaged(destination, key);
    if (bytes !== undefined && !(Buffer.isBuffer(bytes) && decode(bytes.toString('utf8')))) damaged.push(key);
  }
  return damaged;
}

/** The newest list. One that cannot be read counts as empty: waiting once more is the safe side. */
export async function readUnreferenced(destination: Destination, project: string): Promise<Unreferenced> {
  const key = (await listKeys(destination, project)).at(-1);
  const bytes = key === undefined ? undefined : await readEvenDamaged(destination, key);
  return (Buffer.isBuffer(bytes) && decode(bytes.toString('utf8'))) || new Map();
}

/**
 * Puts a new list, see {@link asMuchAsFits}, and removes those before it. An empty one is stored only where the last one cannot be removed, and none that says
 * the same as the newest.
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
    // What it says would count as seen long ago, should any of it be unreferenced again.
    if (unreferenced.size === 0 && !same) await putList();
    return;
  }
}

/** Of a list, what is not about objects, and some more, bytes. */
const HEAD_BYTES = 1024;
/** Of an entry, what is not its key, bytes: quotes, colon, time, comma. */
const ENTRY_BYTES = 30;

/** Those that were seen first, as many as a list of `limit` bytes holds. The others are noted by a later prune. */
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

/** Where nothing can be deleted, asking for each of thousands of objects helps nobody. */
const REFUSALS = 20;

/**
 * Deletes objects, in that order. Returns those that the destination does not let go; after some of them the rest is not asked for.
 *
 * `prove` is called before each, see fence-often.ts.
 *
 * @throws what `prove` throws, and the destination otherwise; the signal's reason
 */
export async function deleteDue<T extends { key: string }>(
  destination: Destination,
  objects: readonly T[],
  { signal, prove }: { signal: AbortSignal; prove(): Promise<void> },
): Promise<T[]> {
  const kept: T[] = [];
  for (const object of objects) {
    signal.throwIfAborted();
    await prove();
    if (kept.length >= REFUSALS || !(await deleteUnlessKept(destination, object.key))) kept.push(object);
  }
  return kept;
}

async function listKeys(destination: Destination, project: string): Promise<string[]> {
  const prefix = `${project}/unreferenced/`;
  const keys: string[] = [];
  for await (const { key } of destination.list(prefix)) {
    if (key.endsWith('.json') && parseSnapshotId(key.slice(prefix.length, -'.json'.length))) keys.push(key);
  }
  return keys;
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
