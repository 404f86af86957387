import { z } from 'zod';
import { hasCode, LifeboatError, toLifeboatError } from '../../base/errors.ts';
import { canonicalJson, FORMAT, manifestKey } from '../objects/manifest.ts';
import { deleteUnlessKept, readEvenDamaged, streamOf } from '../objects/objects.ts';
import { parseSnapshotId } from '../objects/snapshot-id.ts';
import { isPinned } from './pins.ts';
import type { Repository, Snapshot } from './repository.ts';
import { type Verdict, verifyText } from './signing.ts';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const tombstone = z.object({
  format: z.literal(FORMAT),
  id: z.string(),
  project: z.string(),
  sequence: z.int().positive(),
  /** hash of the bytes of the removed manifest */
  sha256,
  previous: sha256.nullable(),
  removed: z.iso.datetime(),
  why: z.string(),
});

/** The record of a pruned snapshot's place in the chain of manifests. */
export type Tombstone = z.infer<typeof tombstone>;

/** A tombstone with the verdict on its signature. */
interface ReadTombstone extends Tombstone {
  verdict: Verdict;
}

/** The reason in the tombstone of a snapshot whose unreadable manifest somebody gave up. */
export const FORGOTTEN = 'nobody could read its manifest any more';

/** The location of a project's tombstones, and the keys that sign them. */
type Place = Pick<Repository, 'destination' | 'project' | 'signing'>;

/** The result of removing a snapshot. `kept`: the destination does not let Lifeboat delete it. */
export type Removal = 'removed' | 'pinned' | 'kept';

/**
 * Removes a snapshot: writes its tombstone `<project>/tombstones/<id>.json`, then deletes the manifest. A snapshot that
 * was pinned at the last moment stays unchanged, and so does one at a destination that forbids deletions. If only the
 * manifest is locked, the tombstone may stay next to it; until the manifest is deleted, the snapshot is like any other.
 */
export async function removeSnapshot(
  place: Place,
  { manifest, hash }: Snapshot,
  { removed, why }: Pick<Tombstone, 'removed' | 'why'>,
): Promise<Removal> {
  const { destination, project } = place;
  const { id } = manifest;
  // An interrupted prune may have left a tombstone. Usually there is none, and the attempt shows whether deletions
  // work.
  if (!(await deleteUnlessKept(destination, tombstoneKey(project, id)))) return 'kept';
  await putTombstone(place, { manifest, hash }, { removed, why });
  // The order matters: `pin` looks for a tombstone after it has put the pin, so one of the two sees the other.
  if (await isPinned(place, id)) {
    await deleteTombstone(place, id);
    return 'pinned';
  }
  if (await deleteUnlessKept(destination, manifestKey(project, id))) return 'removed';
  await deleteTombstone(place, id);
  return 'kept';
}

/**
 * Deletes the manifest of a snapshot whose objects are gone, and leaves a tombstone. If no tombstone can be put, the
 * manifest is deleted anyway, because an incomplete snapshot does more harm than a gap.
 */
export async function withdrawSnapshot(place: Place, snapshot: Snapshot): Promise<void> {
  const { destination, project } = place;
  const { id } = snapshot.manifest;
  const note = { removed: new Date().toISOString(), why: 'its objects were gone when its manifest arrived' };
  await putTombstone(place, snapshot, note).catch(() => undefined);
  if (!(await deleteUnlessKept(destination, manifestKey(project, id)))) await deleteTombstone(place, id);
}

/**
 * Puts the tombstone of a snapshot. An existing tombstone stays if it can be read, belongs to that manifest, and, with
 * a signing key, is signed.
 */
export async function putTombstone(
  place: Place,
  { manifest, hash }: { manifest: Pick<Tombstone, 'id' | 'sequence' | 'previous'>; hash: string },
  { removed, why }: Pick<Tombstone, 'removed' | 'why'>,
): Promise<void> {
  const { destination, project, signing } = place;
  const { id, sequence, previous } = manifest;
  const value: Tombstone = { format: FORMAT, id, project, sequence, sha256: hash, previous, removed, why };
  const text = `${canonicalJson(signing.sign('tombstone', value))}\n`;
  const put = () => destination.put(tombstoneKey(project, id), streamOf(text));
  try {
    await put();
  } catch (error) {
    if (!hasCode(error, 'DEST_EXISTS')) throw error;
    const there = await readTombstone(place, id);
    if (there?.sha256 === hash && (!signing.active || there.verdict === 'signed')) return;
    if (await deleteUnlessKept(destination, tombstoneKey(project, id))) await put();
  }
}

/**
 * Deletes a tombstone. Also resolves if there is none, or if it cannot be deleted: a tombstone has no effect while its
 * manifest exists.
 */
export async function deleteTombstone({ destination, project }: Omit<Place, 'signing'>, id: string): Promise<void> {
  await deleteUnlessKept(destination, tombstoneKey(project, id));
}

/** Returns the ids of the snapshots that have a tombstone. */
export async function tombstoneIds({ destination, project }: Omit<Place, 'signing'>): Promise<string[]> {
  const prefix = `${project}/tombstones/`;
  const ids: string[] = [];
  for await (const { key } of destination.list(prefix)) {
    const id = key.slice(prefix.length).replace(/\.json$/, '');
    if (key.endsWith('.json') && parseSnapshotId(id)) ids.push(id);
  }
  return ids;
}

/**
 * Returns the ids of the snapshots whose tombstones explain that they are gone: the tombstone can be read, has the hash
 * of the manifest, and, with a signing key, is signed or older than the key. Reads only the tombstones of `gone`.
 *
 * @param gone the missing manifests; `signed`: the manifest had a signature
 * @param snapshots the snapshots that are there
 */
export async function findRemoved(
  place: Place,
  gone: readonly { id: string; hash: string; signed?: boolean }[],
  snapshots: readonly Snapshot[],
): Promise<Set<string>> {
  if (gone.length === 0) return new Set();
  const ids = new Set(await tombstoneIds(place));
  const found: ReadTombstone[] = [];
  for (const { id, hash, signed } of gone) {
    const one = ids.has(id) ? await readTombstone(place, id) : undefined;
    if (one?.sha256 === hash && !(signed && one.verdict === 'unsigned')) found.push(one);
  }
  return new Set(sortOut(snapshots, found).usable.map(({ id }) => id));
}

/**
 * Separates usable tombstones from forged ones. A tombstone without a signature explains a gap only among snapshots
 * that are older than the first signed document.
 */
export function sortOut(
  snapshots: readonly Snapshot[],
  tombstones: readonly ReadTombstone[],
): { usable: ReadTombstone[]; forged: ReadTombstone[] } {
  const signed = [
    ...snapshots.filter((one) => !one.unsigned).map(({ manifest }) => manifest),
    ...tombstones.filter(({ verdict }) => verdict === 'signed'),
  ];
  const first = Math.min(...signed.map(({ sequence }) => sequence));
  const forged = tombstones.filter(({ verdict, sequence }) => verdict === 'unsigned' && sequence >= first);
  return { usable: tombstones.filter((one) => !forged.includes(one)), forged };
}

/**
 * Reads the tombstones of a project. Skips those that are unreadable, belong to another snapshot or project, or have a
 * wrong signature.
 *
 * @param options `from`: reads only tombstones from this id on; `wrong`: called for each one that is damaged or has a
 * wrong signature
 */
export async function readTombstones(
  place: Place,
  { from = '', wrong }: { from?: string; wrong?: (id: string, error: LifeboatError) => void } = {},
): Promise<ReadTombstone[]> {
  const found: ReadTombstone[] = [];
  for (const id of await tombstoneIds(place)) {
    if (id < from) continue;
    const one = await readTombstone(place, id, wrong);
    if (one) found.push(one);
  }
  return found;
}

/** Reads the tombstone of one snapshot, with the rules of {@link readTombstones}. */
export async function readTombstone(
  { destination, project, signing }: Place,
  id: string,
  wrong?: (id: string, error: LifeboatError) => void,
): Promise<ReadTombstone | undefined> {
  const found = await readEvenDamaged(destination, tombstoneKey(project, id));
  if (found?.damage) wrong?.(id, found.damage);
  if (!found?.bytes) return undefined;
  const text = found.bytes.toString('utf8');
  const value = decode(text);
  try {
    const verdict = verifyText(signing, 'tombstone', text, { id, project });
    if (value?.id !== id || value.project !== project) throw unreadable(id);
    return { ...value, verdict };
  } catch (error) {
    wrong?.(id, toLifeboatError(error));
    return undefined;
  }
}

/** Returns whether a tombstone does not belong to a snapshot: somebody other than Lifeboat put it there. */
export function isOfAnother({ sha256, verdict }: ReadTombstone, snapshot: Snapshot | undefined): boolean {
  if (!snapshot) return false;
  return sha256 !== snapshot.hash || (verdict === 'unsigned' && snapshot.manifest.signature !== undefined);
}

/** A deletion that a prune has sent arrives within this time, milliseconds. */
const ARRIVES_MS = 24 * 3_600_000;

/** Returns whether a prune may have written the tombstone recently, so that the deletion may still be on its way. */
export function isYoung({ removed }: Pick<Tombstone, 'removed'>, now: Date): boolean {
  const age = now.getTime() - Date.parse(removed);
  return age >= 0 && age < ARRIVES_MS;
}

/**
 * Returns whether a prune may be removing a snapshot that is still there. A tombstone that is forged, unreadable, or
 * left by a prune that was interrupted long ago does not count.
 */
export async function isBeingRemoved(place: Place, snapshot: Snapshot, now: Date): Promise<boolean> {
  const { id } = snapshot.manifest;
  if (!(await tombstoneIds(place)).includes(id)) return false;
  const found = await readTombstone(place, id);
  return found !== undefined && !isOfAnother(found, snapshot) && isYoung(found, now);
}

function unreadable(id: string): LifeboatError {
  return new LifeboatError('OBJECT_DAMAGED', `the tombstone of ${id} cannot be read, or belongs to another snapshot`, {
    hint: 'Lifeboat ignores this tombstone. Find out who can write to the destination, then delete the file.',
  });
}

function decode(text: string): Tombstone | undefined {
  try {
    return tombstone.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Returns the key of a snapshot's tombstone. */
export function tombstoneKey(project: string, id: string): string {
  return `${project}/tombstones/${id}.json`;
}
