import { LifeboatError } from '../../base/errors.ts';
import { type Manifest, objectsOf } from '../objects/manifest.ts';
import type { Repository } from './repository.ts';

type Place = Pick<Repository, 'destination' | 'project'>;

/** So many packs do not get lost one by one at the same time. */
const SEVERAL = 2;

/**
 * Refuses a repository without any pack, although its newest snapshot names several: what belongs there is not mounted, or was
 * deleted as a whole. That is no damage of objects. Asks for one object.
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
  if (lacking.length < SEVERAL) return;
  const { destination, project } = place;
  throw new LifeboatError(
    'DEST_FOREIGN',
    `${destination.name} holds no pack any more: ${project}/packs is empty or gone`,
    {
      hint: 'Is a disk or share mounted there? Mount it, and nothing is lost. If the packs are lost for good, run `lifeboat accept destination`: the next backup stores everything again.',
    },
  );
}

/** Returns the keys of the packs that the newest snapshot names (newest first), if there is no pack at all. */
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
