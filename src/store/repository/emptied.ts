import { LifeboatError } from '../../base/errors.ts';
import { type Manifest, objectsOf } from '../objects/manifest.ts';
import type { Repository } from './repository.ts';

type Place = Pick<Repository, 'destination' | 'project'>;

/** So many packs do not get lost one by one at the same time. */
const SEVERAL = 2;

/**
 * Refuses a repository without any pack, although its snapshots name several: what belongs there is not mounted, or was deleted as a
 * whole. That is no damage of objects. Lists one object.
 *
 * @param known keys of packs that are known to be gone: the next backup stores what they held
 * @throws DEST_FOREIGN; what the destination throws
 */
export async function refuseEmptied(
  place: Place,
  snapshots: readonly { manifest: Manifest }[],
  known: ReadonlySet<string>,
): Promise<void> {
  const lacking = (await listEmptied(place, snapshots)).filter((key) => !known.has(key));
  if (lacking.length === 0 || countUpTo(SEVERAL, place, snapshots, known) < SEVERAL) return;
  const { destination, project } = place;
  throw new LifeboatError(
    'DEST_FOREIGN',
    `${destination.name} holds no pack any more: ${project}/packs is empty or gone`,
    {
      hint: 'Is a disk or share mounted there? Mount it, and nothing is lost. If the packs are lost for good, run `lifeboat accept destination`: the next backup stores everything again.',
    },
  );
}

/**
 * Returns the keys of the packs that the newest snapshot with any pack names, if there is no pack at all although the snapshots
 * name several.
 *
 * @param snapshots newest first
 */
export async function listEmptied(place: Place, snapshots: readonly { manifest: Manifest }[]): Promise<string[]> {
  if (countUpTo(SEVERAL, place, snapshots) < SEVERAL) return [];
  for await (const _ of place.destination.list(packsOf(place))) return [];
  const newest = snapshots.map(({ manifest }) => packKeys(place, manifest)).find((keys) => keys.length > 0);
  return [...new Set(newest)];
}

/** Counts different packs, and stops at the limit: snapshots may be many. */
function countUpTo(
  limit: number,
  place: Place,
  snapshots: readonly { manifest: Manifest }[],
  without: ReadonlySet<string> = new Set(),
): number {
  const found = new Set<string>();
  for (const { manifest } of snapshots) {
    for (const key of packKeys(place, manifest)) if (!without.has(key)) found.add(key);
    if (found.size >= limit) break;
  }
  return found.size;
}

function packKeys(place: Place, manifest: Manifest): string[] {
  const prefix = packsOf(place);
  return objectsOf(manifest).flatMap(({ key }) => (key.startsWith(prefix) ? [key] : []));
}

function packsOf({ project }: Place): string {
  return `${project}/packs/`;
}
