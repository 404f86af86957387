import type { ObjectInfo } from '../destinations/destination.ts';
import { isPackKey } from '../destinations/keys.ts';
import { journalObjects, openJournals } from '../run/journal.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { namedKeys, type UnreadList } from '../store/repository/pack-lists.ts';
import type { Repository, Snapshot } from '../store/repository/repository.ts';
import { listContent, readUnreferenced } from '../store/repository/unreferenced.ts';
import type { Remembering } from '../store/wal/remembered.ts';
import { listUnneededWal } from './wal.ts';

/** An object is deleted once it has been unreferenced for this time, milliseconds. */
export const SECOND_PASS_MS = 24 * 60 * 60 * 1000;

/** Objects that no snapshot needs. */
export interface Garbage {
  /** objects that have been unreferenced long enough */
  due: { key: string; size: number; since: number }[];
  /** objects that are unreferenced, or named only by snapshots to remove, with since when (milliseconds since 1970) */
  waiting: Map<string, { size: number; since: number }>;
  /** ids of the damaged manifests */
  unreadable: readonly string[];
  /** the lists of packs of other snapshots that cannot be read */
  unread: UnreadList[];
  /** number of objects that no other snapshot needs, and that these manifests and lists may name */
  doubted: number;
}

/** Where objects are looked for. */
interface Finding {
  repository: Repository;
  now(): Date;
  /** see {@link listUnneededWal} */
  remembered?: Remembering;
  signal: AbortSignal;
}

/** Finds the objects of the repository that no remaining snapshot names. */
export async function findGarbage(
  { repository, now, remembered, signal }: Finding,
  { announced, unreadable }: { announced: ReadonlySet<string>; unreadable: readonly string[] },
  snapshots: readonly Snapshot[],
  toRemove: ReadonlySet<Snapshot>,
): Promise<Garbage> {
  const { destination, project } = repository;
  const remaining = snapshots.filter((snapshot) => !toRemove.has(snapshot));
  const { keys: named, unread } = await namedKeys(repository, remaining, signal);
  const { keys: namedByRemoved } = await namedKeys(repository, [...toRemove], signal);
  const known = await readUnreferenced(destination, project);
  const at = now().getTime();
  // A manifest may name packs and documents of any snapshot, a list only packs.
  const mayBeNamed = (key: string) => unreadable.length > 0 || (unread.length > 0 && isPackKey(key));
  const garbage: Garbage = { due: [], waiting: new Map(), unreadable, unread, doubted: 0 };
  const manifests = remaining.map(({ manifest }) => manifest);
  for await (const { key, size = 0 } of listAll({ repository, remembered }, manifests, unreadable)) {
    if (named.has(key) || announced.has(key)) continue;
    const since = namedByRemoved.has(key) ? at : Math.min(known.get(key) ?? at, at);
    if (mayBeNamed(key)) {
      garbage.doubted += 1;
      // The day of waiting begins once these manifests or lists are back, or given up.
      if (known.has(key)) garbage.waiting.set(key, { size, since });
    } else if (since <= at - SECOND_PASS_MS) garbage.due.push({ key, size, since });
    else garbage.waiting.set(key, { size, since });
  }
  return garbage;
}

/** Lists all content, and the WAL that no base backup needs. A damaged manifest could be that of a base backup. */
async function* listAll(
  { repository, remembered }: Pick<Finding, 'repository'> & { remembered: Remembering | undefined },
  manifests: readonly Manifest[],
  unreadable: readonly string[],
): AsyncGenerator<ObjectInfo> {
  yield* listContent(repository.destination, repository.project);
  if (unreadable.length === 0) yield* listUnneededWal(repository, manifests, remembered);
}

/** Returns the keys that unfinished runs have announced, and failed runs that were not cleaned up yet. */
export async function announcedObjects(journals: string): Promise<Set<string>> {
  const keys = new Set<string>();
  for (const file of await openJournals(journals)) for (const key of await journalObjects(file)) keys.add(key);
  return keys;
}
