import type { BigIntStats } from 'node:fs';
import { hasErrno, LifeboatError } from '../../base/errors.ts';
import { type AreaKind, areaName, parseAreaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';
import { disturbed } from '../filesystem/disturbed.ts';
import { remoteFileSystem } from '../filesystem/file-system.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { shortPath } from '../filesystem/path.ts';
import { removeTree } from '../filesystem/remove-tree.ts';

/**
 * Which areas Lifeboat trusts. The application often owns the root of its volume. Without being root, it can then
 * rename and replace everything at the top, including areas, and make directories with the names of areas. It cannot
 * create a directory that root owns, and it cannot write into an area, which only its owner may enter.
 */

/** Inodes of the areas of a restore or rollback, as decimal numbers. The agent records them outside the volume. */
export interface AreaInodes {
  restoring?: string;
  before?: string;
}

/** An open area, and its name at the top of the volume. */
export interface FoundArea {
  area: Directory;
  name: string;
}

/** File systems whose server decides who owns a new file. A directory of Lifeboat may have any owner there. */
const FOREIGN_OWNERS = ['fuse', 'cifs', 'smb', '9p'];

/** Returns whether only this process's user can have created a file or directory and can write to it. */
export function isOwn(at: Directory, { uid, mode }: BigIntStats): boolean {
  const user = BigInt(process.geteuid?.() ?? 0);
  return (uid === user && (mode & 0o022n) === 0n) || FOREIGN_OWNERS.includes(remoteFileSystem(at) ?? '');
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
  if (made && isOwn(parent, made.stat()) && made.names().length === 0) return made;
  made?.close();
  throw notOurs(name);
}

/** Returns the error for a name that no longer belongs to the directory that Lifeboat made. */
export function notOurs(name: string): Error {
  return disturbed(`${name} is not the directory that Lifeboat made`);
}

/**
 * Opens an area by its name. Returns undefined if nothing has that name, or if Lifeboat did not make it.
 *
 * @param inode of the area, if it is known
 */
export function enterArea(root: Directory, name: string, inode?: string): Directory | undefined {
  const area = root.enter(name);
  if (!area) return undefined;
  const stat = area.stat();
  if (isOwn(root, stat) && (inode === undefined || inode === String(stat.ino))) return area;
  area.close();
  return undefined;
}

/**
 * Opens an area. If its inode is known, also finds it under another name at the top of the volume, because another
 * program may have renamed it.
 */
export function findArea(root: Directory, kind: AreaKind, id: string, inode?: string): FoundArea | undefined {
  const name = areaName(kind, id);
  const area = enterArea(root, name, inode);
  if (area) return { area, name };
  if (inode === undefined) return undefined;
  for (const other of root.names()) {
    if (String(root.look(other)?.ino) !== inode) continue;
    const renamed = enterArea(root, other, inode);
    if (renamed) return { area: renamed, name: other };
  }
  return undefined;
}

/**
 * Makes both areas of a restore: `before` for the replaced data, and `restoring` for the new data. Making both now
 * ensures that no other program can make one when it sees the other.
 *
 * @throws TREE_TARGET_REFUSED if a name exists
 */
export function makeAreas(root: Directory, id: string): { restoring: Directory; inodes: Required<AreaInodes> } {
  const before = createOwn(root, areaName('before', id));
  try {
    // An empty directory can be removed by another program.
    before.create(RESERVED);
    const restoring = createOwn(root, areaName('restoring', id));
    return { restoring, inodes: { restoring: inodeOf(restoring), before: inodeOf(before) } };
  } catch (error) {
    removeArea(root, { area: before, name: areaName('before', id) });
    throw error;
  } finally {
    before.close();
  }
}

/** A directory in the area for the replaced data, until its list of moves exists. */
export const RESERVED = 'reserved';

/** Returns the inode of a directory. Its device is left out: it changes when a network file system is mounted again. */
export function inodeOf(directory: Directory): string {
  return String(directory.stat().ino);
}

/**
 * Checks that both areas still have their names.
 *
 * @throws TREE_TARGET_REFUSED with the present name of an area that another program has moved
 */
export function checkInPlace(root: Directory, id: string, inodes: AreaInodes): void {
  for (const kind of ['restoring', 'before'] as const) {
    const name = areaName(kind, id);
    const found = findArea(root, kind, id, inodes[kind]);
    found?.area.close();
    if (found?.name !== name) throw disturbed(found ? `${name} is now ${shortPath(found.name)}` : `${name} is gone`);
  }
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

/** Removes the content of an area that another program has moved into another directory. */
export function emptyMoved(area: Directory): void {
  try {
    for (const name of area.names()) removeTree(area, name);
  } catch {
    // It is removed already.
  }
}

/** Refuses an index that lists an area: its content would end up where areas are trusted. */
export async function* withoutAreas(index: AsyncIterable<IndexEntry>): AsyncGenerator<IndexEntry> {
  for await (const entry of index) {
    if (parseAreaName(entry.path.split('/')[0] ?? '')) {
      throw new LifeboatError('OBJECT_DAMAGED', 'the index is damaged: it lists an area of a restore');
    }
    yield entry;
  }
}
