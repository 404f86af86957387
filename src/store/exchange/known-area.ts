import { hasErrno, LifeboatError } from '../../base/errors.ts';
import { areaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';
import { shortPath } from '../filesystem/path.ts';
import { findArea, whyUnproved } from './find-area.ts';
import type { Identity } from './identity.ts';
import { secureMoves } from './list-proof.ts';
import { unmovable } from './movable.ts';
import type { ListProof } from './move-list.ts';
import { type AreaRecord, type FoundArea, isOwnMade } from './own-area.ts';

/**
 * The agent's record of old data, outside the volume. It does not change while its area stays the same: nothing
 * in the volume can correct it.
 */
export interface KnownArea extends ListProof {
  /** ID of the restore or rollback that made the area */
  area: string;
  identity: Identity;
  /** the root of its volume */
  root: Identity;
  /** its deletion has begun: nothing is brought back from it */
  forgotten?: true;
}

/** The record of old data before the exchange is complete: its area can still become another one. */
export type PendingArea = Pick<KnownArea, 'area'>;

/** Returns whether a record says how to recognise its area. */
export function isKnown(record: KnownArea | PendingArea): record is KnownArea {
  return 'list' in record;
}

/** Returns the record of the area of a restore or rollback, if its journal shows that moves have begun. */
export function knownIn(area: string, { before: identity, list, size, root }: AreaRecord): KnownArea | undefined {
  if (identity === undefined || list === undefined || size === undefined || root === undefined) return undefined;
  return { area, identity, list, size, root };
}

/** The recorded area, or what has its name instead. `refused`: why it is not recognised, for a message. */
type Recognised = { found: FoundArea; refused?: undefined } | { refused: string };

/**
 * Opens a recorded area, under whatever name it has at the top of the volume. Changes nothing.
 *
 * @returns undefined if it is gone
 */
export async function recognise(root: Directory, known: KnownArea): Promise<Recognised | undefined> {
  const name = areaName('before', known.area, root.place);
  const found = findArea(root, name, known.identity);
  if (!found) return root.look(name) ? { refused: 'it is another directory than the recorded one' } : undefined;
  // An interrupted deletion removes the list last.
  const deleted = known.forgotten && found.area.names().length === 0;
  const refused = deleted ? undefined : await whyUnproved(found.area, known);
  if (refused === undefined) return { found };
  found.area.close();
  return { refused };
}

/** Like {@link recognise}, for an area that must have its name. */
export async function recogniseInPlace(root: Directory, known: KnownArea): Promise<Recognised | undefined> {
  const recognised = await recognise(root, known);
  if (!recognised || recognised.refused !== undefined) return recognised;
  const { area, name } = recognised.found;
  if (name === areaName('before', known.area, root.place)) return recognised;
  area.close();
  return { refused: `it is now called ${shortPath(name)}. Rename it back` };
}

/**
 * Makes a recognised area accessible to Lifeboat alone, and its list a file that only Lifeboat can write to.
 *
 * @throws TREE_TARGET_REFUSED if another program has changed the list meanwhile
 */
export async function lockArea(root: Directory, { area, name }: FoundArea, known: ListProof): Promise<void> {
  takeOwnership(root, { area, name });
  // The list is verified again: until now, another program could write to it.
  if (!(await secureMoves(area, known))) throw untrusted(name, 'its list of moves has changed');
}

/** Gives an area to this process's user again, and locks out all others. */
export function takeOwnership(root: Directory, { area, name }: FoundArea): void {
  if (isOwnMade(root, area)) return;
  try {
    area.chown({ uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 });
    area.chmod(0o700);
  } catch (error) {
    throw hasErrno(error, 'EPERM', 'EACCES', 'EROFS') ? unmovable(error, root, name, 'changed') : error;
  }
}

/** Returns the error for an area that is not as Lifeboat left it. `why`: see {@link Recognised}. */
export function untrusted(name: string, why: string): LifeboatError {
  return new LifeboatError('TREE_TARGET_REFUSED', `${name} is not as Lifeboat left it: ${why}`, {
    hint: `Lifeboat moves nothing out of it and deletes nothing in it. Inspect it as root: its directory \`tree\` holds the old data. Move what you need back, then move ${name} out of the volume or delete it, and run the command again.`,
  });
}
