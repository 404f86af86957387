import { z } from 'zod';
import { hasCode, LifeboatError } from '../../base/errors.ts';
import { canonicalJson, FORMAT, manifestKey } from '../objects/manifest.ts';
import { deleteUnlessKept, readEvenDamaged, streamOf } from '../objects/objects.ts';
import { parseSnapshotId } from '../objects/snapshot-id.ts';
import { isPinned } from './pins.ts';
import type { Repository, Snapshot } from './repository.ts';
import { type Verdict, verdictOf } from './signing.ts';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const tombstone = z.object({
  format: z.literal(FORMAT),
  id: z.string(),
  project: z.string(),
  sequence: z.int().positive(),
  /** of the bytes of the manifest that was removed */
  sha256,
  previous: sha256.nullable(),
  removed: z.iso.datetime(),
  why: z.string(),
});

/** What stays of a snapshot that was pruned: its place in the chain of manifests. */
export type Tombstone = z.infer<typeof tombstone>;

/** A tombstone, and what its signature is worth. */
export interface ReadTombstone extends Tombstone {
  verdict: Verdict;
}

/** Where a project's tombstones are, and by which keys they are signed. */
type Place = Pick<Repository, 'destination' | 'project' | 'signing'>;

/** What came of removing a snapshot. `kept`: the destination does not let it go. */
export type Removal = 'removed' | 'pinned' | 'kept';

/**
 * Removes a snapshot: its tombstone `<project>/tombstones/<id>.json` is written first, then the manifest is deleted. One that was
 * pinned at the last moment stays as it was. So does one at a destination where nothing can be deleted; where only the manifest
 * cannot, for the time of a lock, the tombstone may stay beside it: the snapshot is one like any other until it goes.
 */
export async function removeSnapshot(
  place: Place,
  { manifest, hash }: Snapshot,
  { removed, why }: Pick<Tombstone, 'removed' | 'why'>,
): Promise<Removal> {
  const { destination, project } = place;
  const { id } = manifest;
  // One that an interrupted prune left; mostly there is none, and the answer says whether anything can be deleted.
  if (!(await deleteUnlessKept(destination, tombstoneKey(project, id)))) return 'kept';
  await putTombstone(place, { manifest, hash }, { removed, why });
  // In this order: `pin` looks for a tombstone after it has put the pin, so one of the two sees the other.
  if (await isPinned(place, id)) {
    await deleteTombstone(place, id);
    return 'pinned';
  }
  if (await deleteUnlessKept(destination, manifestKey(project, id))) return 'removed';
  await deleteTombstone(place, id);
  return 'kept';
}

/**
 * Notes where a snapshot had its place in the chain. One that is there already stays, unless a signing key is set and it is not
 * signed by it.
 */
export async function putTombstone(
  place: Place,
  { manifest, hash }: Snapshot,
  { removed, why }: Pick<Tombstone, 'removed' | 'why'>,
): Promise<void> {
  const { destination, project, signing } = place;
  const { id, sequence, previous } = manifest;
  const value: Tombstone = { format: FORMAT, id, project, sequence, sha256: hash, previous, removed, why };
  const text = `${canonicalJson(signing.sign('tombstone', value))}\n`;
  if (signing.active && (await readTombstone(place, id))?.verdict !== 'signed') await deleteTombstone(place, id);
  try {
    await destination.put(tombstoneKey(project, id), streamOf(text));
  } catch (error) {
    if (!hasCode(error, 'DEST_EXISTS')) throw error;
  }
}

/** Resolves also when there is none, or when it cannot be deleted: beside its manifest a tombstone says nothing. */
export async function deleteTombstone({ destination, project }: Omit<Place, 'signing'>, id: string): Promise<void> {
  await deleteUnlessKept(destination, tombstoneKey(project, id));
}

/** Ids of the snapshots that have a tombstone. */
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
 * All tombstones of a project, or those of snapshots from `from` on. One that cannot be read, says that it is of another snapshot
 * or project, or is not what was signed, is none; `wrong` hears of those that are damaged or not what was signed.
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

/** That of one snapshot, judged as {@link readTombstones} does. */
export async function readTombstone(
  { destination, project, signing }: Place,
  id: string,
  wrong?: (id: string, error: LifeboatError) => void,
): Promise<ReadTombstone | undefined> {
  const bytes = await readEvenDamaged(destination, tombstoneKey(project, id));
  if (bytes instanceof LifeboatError) wrong?.(id, bytes);
  if (!Buffer.isBuffer(bytes)) return undefined;
  const text = bytes.toString('utf8');
  const value = decode(text);
  if (!value) return undefined;
  const verdict = verdictOf(signing, 'tombstone', text, { id, project });
  if (verdict instanceof LifeboatError) wrong?.(id, verdict);
  else if (value.id === id && value.project === project) return { ...value, verdict };
  return undefined;
}

function decode(text: string): Tombstone | undefined {
  try {
    return tombstone.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Where the tombstone of a snapshot is. */
export function tombstoneKey(project: string, id: string): string {
  return `${project}/tombstones/${id}.json`;
}
