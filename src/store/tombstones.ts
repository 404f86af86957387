import { z } from 'zod';
import type { Destination } from '../destinations/destination.ts';
import { LifeboatError } from '../errors.ts';
import { canonicalJson, FORMAT } from './manifest.ts';
import { readIfThere, streamOf } from './objects.ts';
import { isPinned } from './pins.ts';
import { manifestKey, type Snapshot } from './repository.ts';
import { parseSnapshotId } from './snapshot-id.ts';

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

/**
 * Removes a snapshot: its tombstone `<project>/tombstones/<id>.json` is written first (one that is there already stays), then the
 * manifest is deleted. Resolves to false, and nothing is changed, when it was pinned at the last moment.
 */
export async function removeSnapshot(
  destination: Destination,
  project: string,
  { manifest, hash }: Snapshot,
  { removed, why }: Pick<Tombstone, 'removed' | 'why'>,
): Promise<boolean> {
  const { id, sequence, previous } = manifest;
  const value: Tombstone = { format: FORMAT, id, project, sequence, sha256: hash, previous, removed, why };
  try {
    await destination.put(tombstoneKey(project, id), streamOf(`${canonicalJson(value)}\n`));
  } catch (error) {
    if (!(error instanceof LifeboatError && error.code === 'DEST_EXISTS')) throw error;
  }
  // In this order: `pin` looks for a tombstone after it has put the pin, so one of the two sees the other.
  if (await isPinned(destination, project, id)) {
    await deleteTombstone(destination, project, id);
    return false;
  }
  await destination.delete(manifestKey(project, id));
  return true;
}

/** Resolves also when there is none. */
export async function deleteTombstone(destination: Destination, project: string, id: string): Promise<void> {
  await destination.delete(tombstoneKey(project, id));
}

/** Ids of the snapshots that have a tombstone. */
export async function tombstoneIds(destination: Destination, project: string): Promise<string[]> {
  const prefix = `${project}/tombstones/`;
  const ids: string[] = [];
  for await (const { key } of destination.list(prefix)) {
    const id = key.slice(prefix.length).replace(/\.json$/, '');
    if (key.endsWith('.json') && parseSnapshotId(id)) ids.push(id);
  }
  return ids;
}

/** All tombstones of a project. One that cannot be read, or says that it is of another snapshot or project, is none. */
export async function readTombstones(destination: Destination, project: string): Promise<Tombstone[]> {
  const found: Tombstone[] = [];
  for (const id of await tombstoneIds(destination, project)) {
    const bytes = await readIfThere(destination, tombstoneKey(project, id));
    const value = bytes && decode(bytes.toString('utf8'));
    if (value?.id === id && value.project === project) found.push(value);
  }
  return found;
}

function decode(text: string): Tombstone | undefined {
  try {
    return tombstone.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function tombstoneKey(project: string, id: string): string {
  return `${project}/tombstones/${id}.json`;
}
