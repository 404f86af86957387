import type { LifeboatError } from '../../base/errors.ts';
import { KeySet } from '../objects/key-set.ts';
import {
  documentsOf,
  documentsOfEntry,
  type ListedPack,
  type Manifest,
  type ManifestSource,
  type ObjectRef,
  type PackListRef,
} from '../objects/manifest.ts';
import { decodePackList, SeenLines } from '../objects/pack-list.ts';
import { isDamage } from './damage.ts';
import type { Repository } from './repository.ts';
import { isAboutManifest } from './snapshot-list.ts';

/** Which packs snapshots need. Snapshots with the same packs share one list, so each list is read once. */

type Lists = Pick<Repository, 'readPackList'>;
type Entry = Pick<ManifestSource, 'index' | 'facts' | 'packs'>;

/**
 * Reads the packs of one source of a snapshot.
 *
 * @throws OBJECT_MISSING, OBJECT_DAMAGED; what the destination throws
 */
export async function readPacks(repository: Lists, { packs }: Entry, signal?: AbortSignal): Promise<ListedPack[]> {
  return packs ? [...decodePackList(await repository.readPackList(packs, signal), packs)] : [];
}

/** Returns every object that one source of a snapshot needs. Throws like {@link readPacks}. */
export async function objectsOfEntry(repository: Lists, entry: Entry, signal?: AbortSignal): Promise<ObjectRef[]> {
  return [...documentsOfEntry(entry), ...(await readPacks(repository, entry, signal))];
}

/** Returns every object that a snapshot needs. Throws like {@link readPacks}. */
export async function objectsOf(
  repository: Lists,
  manifest: Pick<Manifest, 'sources'>,
  signal?: AbortSignal,
): Promise<ObjectRef[]> {
  const objects = new Map<string, ObjectRef>();
  for (const entry of Object.values(manifest.sources))
    for (const ref of await objectsOfEntry(repository, entry, signal)) objects.set(ref.key, ref);
  return [...objects.values()];
}

/** A list that cannot be read although the destination works. The packs of its snapshots are unknown. */
export interface UnreadList {
  list: PackListRef;
  error: LifeboatError;
}

/**
 * Calls `visit` for the packs in several lists. Reads one list at a time, and remembers only the lines that it has
 * seen: memory grows with the number of different packs, not with the number of lists.
 *
 * @returns the lists that are missing, damaged, or not readable now
 * @throws what the destination throws if the error does not concern the list alone; the signal's reason
 */
export async function visitPacks(
  repository: Lists,
  lists: readonly PackListRef[],
  visit: (pack: ListedPack) => void,
  signal?: AbortSignal,
): Promise<UnreadList[]> {
  const seen = new SeenLines();
  const unread: UnreadList[] = [];
  for (const list of lists) {
    signal?.throwIfAborted();
    try {
      for (const pack of decodePackList(await repository.readPackList(list, signal), list, seen)) visit(pack);
    } catch (error) {
      signal?.throwIfAborted();
      if (!isDamage(error) && !isAboutManifest(error)) throw error;
      unread.push({ list, error });
    }
  }
  return unread;
}

/**
 * Returns how many bytes of each of these packs (given by id) one snapshot uses at most, by id: the newest uses the
 * least, because later snapshots only refer to what is left. Returns undefined if a list cannot be read.
 */
export async function readUse(
  repository: Lists,
  manifests: Iterable<Pick<Manifest, 'sources'>>,
  ids: ReadonlySet<string>,
  signal?: AbortSignal,
): Promise<Map<string, number> | undefined> {
  const use = new Map<string, number>();
  const visit = ({ id, used, plainSize }: ListedPack) => {
    if (ids.has(id)) use.set(id, Math.max(use.get(id) ?? 0, used ?? plainSize));
  };
  const unread = await visitPacks(repository, listsOf(manifests), visit, signal);
  return unread.length === 0 ? use : undefined;
}

/** Returns the different lists of packs that snapshots name. */
export function listsOf(manifests: Iterable<Pick<Manifest, 'sources'>>): PackListRef[] {
  const lists = new Map<string, PackListRef>();
  for (const { sources } of manifests)
    for (const { packs } of Object.values(sources)) if (packs) lists.set(`${packs.key} ${packs.sha256}`, packs);
  return [...lists.values()];
}

/** Returns the keys of all objects that snapshots need, and the lists that cannot be read, see {@link visitPacks}. */
export async function namedKeys(
  repository: Lists,
  snapshots: readonly { manifest: Manifest }[],
  signal?: AbortSignal,
): Promise<{ keys: KeySet; unread: UnreadList[] }> {
  const manifests = snapshots.map(({ manifest }) => manifest);
  const keys = new KeySet();
  for (const manifest of manifests) for (const { key } of documentsOf(manifest)) keys.add(key);
  const unread = await visitPacks(repository, listsOf(manifests), ({ key }) => keys.add(key), signal);
  return { keys, unread };
}

/**
 * Returns `keys` and, in addition, the keys of those lists of sources that name one of them, or cannot be read. A
 * source with such a list cannot be restored whole.
 */
export async function withListsOf(
  repository: Lists,
  entries: readonly Entry[],
  keys: readonly string[],
  signal?: AbortSignal,
): Promise<string[]> {
  if (keys.length === 0) return [];
  const known = new Set(keys);
  for (const { packs } of entries) {
    let isHit = false;
    const lists = packs ? [packs] : [];
    const unread = await visitPacks(repository, lists, ({ key }) => (isHit ||= known.has(key)), signal);
    if (packs && (isHit || unread.length > 0)) known.add(packs.key);
  }
  return [...known];
}
