import { type AreaKind, areaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';
import { disturbed } from '../filesystem/disturbed.ts';
import { shortPath } from '../filesystem/path.ts';
import { type Identity, isSame } from './identity.ts';
import { sumMoves } from './list-proof.ts';
import { exchangeState, type SourceProof, UNDER_WAY, UNFINISHED } from './move-list.ts';
import { type AreaRecord, type FoundArea, isForeign, isOwn, isOwnMade, RESERVED } from './own-area.ts';
import { BASE, readBase } from './root-base.ts';

/**
 * Recognises areas. A directory is an area only if it has the recorded identity and holds the recorded proof. Names and
 * owners prove nothing: the owner of a volume's root can rename everything in it, and many images run `chown -R` on
 * their volume at each start. A directory that is not recognised is never changed.
 */

/**
 * Finds the directory with a recorded identity, under any name at the top of the volume. Its content is not verified.
 * Where inodes can change, finds the directory with the name of the area.
 */
export function findArea(root: Directory, name: string, identity: Identity): FoundArea | undefined {
  if (isForeign(root)) {
    const area = root.enter(name);
    return area && { area, name };
  }
  const { dev } = root.stat();
  for (const other of [name, ...root.names()]) {
    const found = root.look(other);
    if (found?.dev !== dev || String(found.ino) !== identity.split('@')[0]) continue;
    const area = root.enter(other);
    if (area && isSame(area, identity)) return { area, name: other };
    area?.close();
  }
  return undefined;
}

/**
 * Returns whether a volume is another one than the recorded one: an empty mount point is another directory than the
 * root of the disk that belongs there.
 */
export function isOtherRoot(root: Directory, recorded: Identity | undefined): boolean {
  return recorded !== undefined && !isForeign(root) && !isSame(root, recorded);
}

/** Returns why a directory lacks its recorded proof, for a message; undefined if it holds the proof. */
export async function whyUnproved(area: Directory, proof: SourceProof): Promise<string | undefined> {
  if ('base' in proof) return readBase(area, proof.base) === undefined ? `its file ${BASE} has changed` : undefined;
  if (exchangeState(area) === 'none') return 'its list of moves is gone';
  return (await sumMoves(area, proof.size)) === proof.list ? undefined : 'its list of moves has changed';
}

/**
 * Opens both areas of a restore, which only Lifeboat can have written to since it made them.
 *
 * @returns the areas, and the time of the root without the effect of making them, nanoseconds since 1970
 * @throws TREE_TARGET_REFUSED if another program has moved or changed an area
 */
export function openAreas(
  root: Directory,
  id: string,
  { restoring, base, before }: Required<Pick<AreaRecord, 'restoring' | 'base' | 'before'>>,
): { restoring: FoundArea; before: FoundArea; mtime: bigint } {
  const first = openInPlace(root, 'restoring', id, restoring);
  let second: FoundArea | undefined;
  try {
    second = openInPlace(root, 'before', id, before);
    const times = readBase(first.area, base);
    if (!times) throw disturbed(`${first.name} lacks the file ${BASE} that Lifeboat made`);
    if (!isUnused(second.area)) throw disturbed(`${second.name} holds files that Lifeboat did not make`);
    // Services may have changed the root since.
    const now = root.meta().mtime;
    return { restoring: first, before: second, mtime: now === times.madeAt ? times.mtime : now };
  } catch (error) {
    first.area.close();
    second?.area.close();
    throw error;
  }
}

function openInPlace(root: Directory, kind: AreaKind, id: string, identity: Identity): FoundArea {
  const name = areaName(kind, id, root.place);
  const found = findArea(root, name, identity);
  if (!found) throw disturbed(`${name} is ${root.look(name) ? 'another directory than the recorded one' : 'gone'}`);
  const own = isOwnMade(root, found.area);
  if (found.name === name && own) return found;
  const { uid } = found.area.stat();
  found.area.close();
  if (found.name !== name) throw disturbed(`${name} is now ${shortPath(found.name)}`);
  throw disturbed(`the owner or mode of ${name} has changed (user ${uid})`);
}

/** The names that an area can contain before data is built in it or moved into it. */
const FILES = [BASE, UNFINISHED, UNDER_WAY];

function isUnused(area: Directory): boolean {
  return area.names().every((name) => {
    if (FILES.includes(name)) return area.look(name)?.isFile() === true;
    if (name !== RESERVED) return false;
    const reserved = area.enter(name);
    try {
      return reserved?.names().length === 0;
    } finally {
      reserved?.close();
    }
  });
}

/**
 * Removes an area that nothing was built in or moved into. Removes only files of Lifeboat and empty directories, so
 * nothing is lost if it is another directory.
 *
 * @returns false if the area holds anything else; it stays as it is then
 */
export function removeUnused(root: Directory, { area, name }: FoundArea): boolean {
  if (!isUnused(area)) return false;
  for (const child of area.names()) {
    if (child === RESERVED) area.removeDirectory(child);
    else area.unlink(child);
  }
  root.removeDirectory(name);
  return true;
}

/**
 * Finds an area of a restore or rollback that died before it recorded the area. Only an empty directory that
 * {@link isOwn} can be one.
 */
export function findUnrecorded(root: Directory, name: string): FoundArea | undefined {
  const area = root.enter(name);
  if (!area) return undefined;
  if (isOwn(root, area.stat()) && isUnused(area)) return { area, name };
  area.close();
  return undefined;
}
