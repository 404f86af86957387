import { LifeboatError } from '../../base/errors.ts';
import { type Manifest, objectsOf } from '../objects/manifest.ts';
import type { Repository } from './repository.ts';

type Place = Pick<Repository, 'destination' | 'project'>;

/** From this number of packs on, the loss of all of them at once is not taken for damage to single objects. */
const SEVERAL = 2;

/**
 * Refuses a repository that has no packs although its newest snapshot names several. The disk or share is not mounted,
 * or somebody deleted all packs. That is not damage to single objects. Lists at most one object.
 *
 * @param known keys of packs that are known to be missing: the next backup stores their content again
 * @throws DEST_FOREIGN; what the destination throws
 */
export async function refuseEmptied(
  place: Place,
  snapshots: readonly { manifest: Manifest }[],
  known: ReadonlySet<string>,
): Promise<void> {
  const lacking = (await listEmptied(place, snapshots)).filter((key) => !known.has(key));
  if (lacking.length < SEVERAL) return;
  const { destination, project } = place;
  throw new LifeboatError(
    'DEST_FOREIGN',
    `${destination.name} holds no packs any more: ${project}/packs is empty or missing`,
    {
      hint: 'If a disk or share belongs there, mount it: nothing is lost then. If the packs are lost for good, run `lifeboat accept destination`: the next backup stores everything again.',
    },
  );
}

/** Returns the keys of the packs that the newest snapshot names if the repository has no packs, else nothing. */
export async function listEmptied(
  { destination, project }: Place,
  [newest]: readonly { manifest: Manifest }[],
): Promise<string[]> {
  const prefix = `${project}/packs/`;
  const named = newest ? objectsOf(newest.manifest).filter(({ key }) => key.startsWith(prefix)) : [];
  if (named.length < SEVERAL) return [];
  for await (const _ of destination.list(prefix)) return [];
  return [...new Set(named.map(({ key }) => key))];
}
