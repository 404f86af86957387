import { LifeboatError } from '../../base/errors.ts';
import { type HintByKind, hintFor, UNDELETE_HINT } from '../../destinations/destination.ts';
import type { Problem } from '../../plan/model.ts';
import type { Manifest, PackListRef } from '../objects/manifest.ts';
import { listsOf, visitPacks } from './pack-lists.ts';
import type { Repository } from './repository.ts';

type Place = Pick<Repository, 'destination' | 'project' | 'readPackList'>;

/** From this number of packs on, the loss of all of them at once is not taken for damage to single objects. */
const SEVERAL = 2;

const PACKS_GONE: HintByKind = {
  directory: 'If a disk or share belongs there, mount it: nothing is lost then.',
  bucket: UNDELETE_HINT,
};

/**
 * Refuses a repository that has no packs although its snapshots name several. The disk or share is not mounted,
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
  if (!(await holdsNoPacks(place))) return;
  const lacking = (await listEmptied(place, snapshots)).filter((key) => !known.has(key));
  if (lacking.length === 0 || (await countUpTo(SEVERAL, place, snapshots, known)) < SEVERAL) return;
  const { destination, project } = place;
  throw new LifeboatError(
    'DEST_FOREIGN',
    `${destination.name} holds no packs any more: ${project}/packs is empty or missing`,
    {
      hint: `${hintFor(destination, PACKS_GONE)} If the packs are lost for good, run \`lifeboat accept destination\`: the next backup stores everything again.`,
    },
  );
}

/**
 * Returns the keys of the packs that the newest snapshot with packs names if the repository has no packs although the
 * snapshots name several, else nothing.
 *
 * @param snapshots newest first
 */
export async function listEmptied(place: Place, snapshots: readonly { manifest: Manifest }[]): Promise<string[]> {
  if (!(await holdsNoPacks(place)) || (await countUpTo(SEVERAL, place, snapshots)) < SEVERAL) return [];
  for (const { manifest } of snapshots) {
    const keys = await readKeys(place, listsOf([manifest]));
    if (keys.length > 0) return [...new Set(keys)];
  }
  return [];
}

async function holdsNoPacks(place: Place): Promise<boolean> {
  for await (const _ of place.destination.list(packsOf(place))) return false;
  return true;
}

/** A source whose packs are all gone, with the keys of those that its newest snapshot names. */
interface EmptiedSource {
  source: string;
  keys: string[];
}

/**
 * Returns the sources whose packs are all gone, although their newest snapshot with packs names some: somebody deleted
 * their directories. Lists at most one object for each source.
 *
 * @param snapshots newest first
 * @param known keys of packs that are known to be missing or damaged
 */
export async function listEmptiedSources(
  place: Place,
  snapshots: readonly { manifest: Manifest }[],
  known: ReadonlySet<string>,
): Promise<EmptiedSource[]> {
  const newest = new Map<string, PackListRef>();
  for (const { manifest } of snapshots) {
    for (const [source, { packs }] of Object.entries(manifest.sources))
      if (packs && !newest.has(source)) newest.set(source, packs);
  }
  const emptied: EmptiedSource[] = [];
  for (const [source, list] of newest) {
    const unknown = (await readKeys(place, [list])).filter((key) => !known.has(key));
    if (unknown.length > 0 && !(await holdsAny(place, unknown))) emptied.push({ source, keys: unknown });
  }
  return emptied;
}

/** Returns whether a directory of packs, to which some of these keys belong, holds any object. */
async function holdsAny(place: Place, keys: readonly string[]): Promise<boolean> {
  const directories = new Set(keys.map((key) => key.slice(0, key.indexOf('/', packsOf(place).length) + 1)));
  for (const directory of directories) for await (const _ of place.destination.list(directory)) return true;
  return false;
}

/** Returns the problem of a source whose packs are all gone. */
export function emptiedProblem({ destination }: Pick<Place, 'destination'>, { source }: EmptiedSource): Problem {
  return {
    severity: 'error',
    code: 'OBJECT_MISSING',
    subject: source,
    message: `${destination.name} holds no packs of ${source} any more, so its earlier snapshots there cannot be restored`,
    hint: 'The next backup stores everything of it again. A copy may have the earlier packs: `lifeboat check` names the snapshots, and `lifeboat restore --from` reads a copy.',
  };
}

/** Counts distinct packs up to a limit, because there may be many snapshots. */
async function countUpTo(
  limit: number,
  place: Place,
  snapshots: readonly { manifest: Manifest }[],
  without: ReadonlySet<string> = new Set(),
): Promise<number> {
  const found = new Set<string>();
  for (const list of listsOf(snapshots.map(({ manifest }) => manifest))) {
    for (const key of await readKeys(place, [list])) if (!without.has(key)) found.add(key);
    if (found.size >= limit) break;
  }
  return found.size;
}

/** Returns the packs of the project in some lists. A list that cannot be read does not count: nothing builds on it. */
async function readKeys(place: Place, lists: readonly PackListRef[]): Promise<string[]> {
  const prefix = packsOf(place);
  const keys: string[] = [];
  await visitPacks(place, lists, ({ key }) => {
    if (key.startsWith(prefix)) keys.push(key);
  });
  return keys;
}

function packsOf({ project }: Place): string {
  return `${project}/packs/`;
}
