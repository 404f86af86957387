import { type BigIntStats, closeSync, fstatSync } from 'node:fs';
import { hasErrno, LifeboatError } from '../../base/errors.ts';
import { areaName, parseAreaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';
import { disturbed } from '../filesystem/disturbed.ts';
import { remoteFileSystem } from '../filesystem/file-system.ts';
import type { IndexLine } from '../filesystem/read-index.ts';
import { removeTree } from '../filesystem/remove-tree.ts';
import type { Identity } from './identity.ts';
import { BASE } from './root-base.ts';

/**
 * Makes and removes areas. The application often owns the root of its volume. Without being root, it can then rename
 * and replace everything at the top, including areas, and make directories with the names of areas. It cannot create a
 * directory that root owns, and it cannot write into an area, which only its owner may enter. Later, only the record of
 * an area shows which directory it is, see find-area.ts.
 */

/** The areas of a restore or rollback, as the journal records them. */
export interface AreaRecord {
  /** the area of the new data */
  restoring?: Identity;
  /** SHA-256 of the file with the metadata of the root in that area, hexadecimal */
  base?: string;
  /** the area for the replaced data */
  before?: Identity;
  /** SHA-256 of the list of moves in that area, hexadecimal, and its size in bytes; absent: nothing has moved */
  list?: string;
  size?: number;
  /** the root of the volume */
  root?: Identity;
  /** all moves are made or reverted: only the cleanup is left */
  ended?: Ended;
}

/** The end of an exchange. `now`: the data in place; `kept`: true if the area holds replaced data. */
export interface Ended {
  now: 'old' | 'new';
  kept?: boolean;
}

/** An open area, and its name at the top of the volume. */
export interface FoundArea {
  area: Directory;
  name: string;
}

/**
 * File systems that do not store owners, or whose server decides who owns a new file. A directory of Lifeboat may have
 * any owner there, and its inode can change.
 */
const FOREIGN_OWNERS = ['fuse', 'cifs', 'smb', '9p', 'vfat', 'exfat', 'vboxsf'];

/** Returns whether owners and inodes mean nothing on a file system. */
export function isForeign(at: Directory): boolean {
  return FOREIGN_OWNERS.includes(remoteFileSystem(at) ?? '');
}

/** The users that own new files of this process, by device, on servers that replace root by another user. */
const users = new Map<bigint, bigint>();

/**
 * Returns whether only this process's user can have created a file or directory, and only that user can write to it.
 */
export function isOwn(at: Directory, { dev, uid, mode }: BigIntStats): boolean {
  const user = users.get(dev) ?? BigInt(process.geteuid?.() ?? 0);
  return (uid === user && (mode & 0o022n) === 0n) || isForeign(at);
}

/** The file that {@link learnUser} creates for a moment. */
const PROBE = 'probe';

/**
 * Learns which user owns new files of this process on NFS: a server with `all_squash` replaces root. The open file
 * shows it, because no other program can replace that.
 */
function learnUser(directory: Directory): void {
  if (remoteFileSystem(directory) !== 'nfs') return;
  const { dev } = directory.stat();
  if (users.has(dev)) return;
  const file = directory.createFile(PROBE);
  try {
    users.set(dev, fstatSync(file, { bigint: true }).uid);
  } finally {
    closeSync(file);
    directory.unlink(PROBE);
  }
}

/** Like {@link isOwn}, for a directory that this process's user made. Learns who that is first. */
export function isOwnMade(parent: Directory, made: Directory): boolean {
  if (isOwn(parent, made.stat())) return true;
  learnUser(made);
  return isOwn(parent, made.stat());
}

/**
 * Creates a directory that only its owner may enter, and opens it.
 *
 * @throws TREE_TARGET_REFUSED if the name exists, or if another program replaces the directory at once
 */
export function createOwn(parent: Directory, name: string): Directory {
  try {
    parent.create(name);
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) throw disturbed(`${name} exists, and Lifeboat did not make it`, error);
    throw error;
  }
  const made = parent.enter(name);
  try {
    if (made && isOwnMade(parent, made) && made.names().length === 0) return made;
    throw made ? notOurs(name, made.stat().uid) : notOurs(name);
  } catch (error) {
    made?.close();
    removeEmpty(parent, name);
    throw error;
  }
}

/** Removes a directory that is empty. */
function removeEmpty(parent: Directory, name: string): void {
  try {
    parent.removeDirectory(name);
  } catch {
    // Another program has put something else there, which stays.
  }
}

/**
 * Returns the error for a name that no longer belongs to the directory that Lifeboat made. `uid`: the owner of a
 * directory that should belong to this process's user.
 */
export function notOurs(name: string, uid?: bigint): LifeboatError {
  const found = `${name} is not the directory that Lifeboat made`;
  if (uid === undefined) return disturbed(found);
  return new LifeboatError('TREE_TARGET_REFUSED', `${found}, or the file system gave it to user ${uid}`, {
    hint: 'Nothing was replaced. Stop the program that writes to the volume, then run the command again. If the file system decides who owns new files, check the export options of its server (`no_root_squash`) or its mount options (`uid`), or restore with --to-directory.',
  });
}

/**
 * Makes and opens both areas of a restore: `before` for the replaced data, and `restoring` for the new data. Making
 * both now ensures that no other program can make one when it sees the other.
 *
 * @throws TREE_TARGET_REFUSED if a name exists
 */
export function makeAreas(root: Directory, id: string): { restoring: Directory; before: Directory } {
  const before = createOwn(root, areaName('before', id, root.place));
  try {
    // An empty directory can be removed by another program.
    before.create(RESERVED);
    return { restoring: createOwn(root, areaName('restoring', id, root.place)), before };
  } catch (error) {
    removeOpen(root, before, areaName('before', id, root.place));
    before.close();
    throw error;
  }
}

/** A directory in the area for the replaced data, until its list of moves exists. */
export const RESERVED = 'reserved';

/**
 * Removes an area that this process has made and still has open, under its present name. An area that another program
 * has moved into another directory is emptied there.
 *
 * @param made the name that it was made under
 */
export function removeOpen(root: Directory, area: Directory, made: string): void {
  const { dev, ino } = area.stat();
  // The inode of an open directory is not given to another one.
  const isIt = (name: string) => {
    const found = root.look(name);
    return found?.ino === ino && found.dev === dev;
  };
  const name = isForeign(root) ? made : root.names().find(isIt);
  if (name !== undefined) removeArea(root, { area, name }, undefined, [BASE]);
  else for (const child of area.names()) removeTree(area, child);
}

/**
 * Removes an area. Leaves anything that replaces the area meanwhile: removes the content through the open directory,
 * and the name only if its directory is empty.
 *
 * @param last names in the area that are removed after everything else, so that an interrupted removal can be repeated
 */
export function removeArea(
  root: Directory,
  { area, name }: FoundArea,
  heard: () => void = () => undefined,
  last: readonly string[] = [],
): void {
  const names = area.names().filter((child) => !last.includes(child));
  for (const child of [...names, ...last]) removeTree(area, child, heard);
  try {
    root.removeDirectory(name);
  } catch (error) {
    // Another program has moved it, and put something else there.
    if (!hasErrno(error, 'ENOENT', 'ENOTDIR', 'ENOTEMPTY')) throw error;
  }
  heard();
}

/** Refuses an index that lists an area: its content would end up where areas are trusted. */
export async function* withoutAreas(index: AsyncIterable<IndexLine>): AsyncGenerator<IndexLine> {
  for await (const entry of index) {
    if (parseAreaName(entry.path.split('/')[0] ?? '')) {
      throw new LifeboatError('OBJECT_DAMAGED', 'the index is damaged: it lists an area of a restore');
    }
    yield entry;
  }
}
