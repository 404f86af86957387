import type { Dirent } from 'node:fs';
import { lstat, readdir, readlink, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno, LifeboatError } from '../base/errors.ts';

/** Links and mounts below the root of a local destination. Parts of a repository may be on other disks. */

/** Returns the device and inode of a directory. */
export async function identify(directory: string): Promise<string> {
  const { dev, ino } = await stat(directory, { bigint: true });
  return `${dev}:${ino}`;
}

/** Returns the directories above a prefix, from the root down, without those that do not exist. */
export async function wayTo(root: string, prefix: string): Promise<string[]> {
  const parts = prefix.split('/').slice(0, -1);
  const above = parts.map((_, depth) => join(root, ...parts.slice(0, depth)));
  const found = await Promise.all(above.map((directory) => identify(directory).catch(() => undefined)));
  return found.filter((one) => one !== undefined);
}

/**
 * Returns the entries of a directory. Links to directories count as directories. A link to the root, or to a directory
 * inside it, is skipped because its objects would get second names.
 *
 * @throws DEST_UNREACHABLE for a broken link below the root: a disk or share is not mounted
 */
export async function readEntries(
  root: string,
  prefix: string,
): Promise<Pick<Dirent, 'name' | 'isDirectory' | 'isFile'>[]> {
  const entries = await readdir(join(root, prefix), { withFileTypes: true });
  const links = entries.filter((entry) => entry.isSymbolicLink());
  if (links.length === 0) return entries;
  const inside = `${await realpath(root)}/`;
  const followed = new Set<string>();
  for (const { name } of links) {
    const link = join(root, prefix, name);
    const target = await realpath(link).catch(() => undefined);
    // The root may contain links that have nothing to do with backups.
    if (target === undefined && prefix !== '' && !name.startsWith('.')) throw await leadsNowhere(link);
    if (target === undefined || `${target}/`.startsWith(inside) || inside.startsWith(`${target}/`)) continue;
    if ((await stat(target).catch(() => undefined))?.isDirectory()) followed.add(name);
  }
  return entries.map((entry) =>
    followed.has(entry.name) ? { name: entry.name, isDirectory: () => true, isFile: () => false } : entry,
  );
}

/**
 * Finds out why nothing can exist below a key or prefix: one of its parent directories is a broken link, or a file.
 * Returns undefined if the parents are directories, or do not exist. With `onlyLinks`, ignores files: they may be other
 * objects.
 */
export async function findBrokenParent(
  root: string,
  key: string,
  { onlyLinks = false } = {},
): Promise<LifeboatError | undefined> {
  const parts = key.split('/').slice(0, -1);
  for (let depth = 1; depth <= parts.length; depth++) {
    const at = join(root, ...parts.slice(0, depth));
    const found = await lstat(at).catch(() => undefined);
    if (!found) return undefined;
    const target = found.isSymbolicLink() ? await stat(at).catch(() => undefined) : found;
    if (!target) return leadsNowhere(at);
    if (!target.isDirectory() && !onlyLinks) {
      return new LifeboatError('DEST_UNREACHABLE', `${at} is not a directory`, {
        hint: 'Backups need a directory of that name. Move the file away, or mount the disk or share that belongs there.',
      });
    }
  }
  return undefined;
}

async function leadsNowhere(link: string): Promise<LifeboatError> {
  const target = await readlink(link).catch(() => 'an unknown place');
  const cause = await stat(link).then(
    () => undefined,
    (error: unknown) => error,
  );
  const what = hasErrno(cause, 'ELOOP') ? 'leads back to itself' : 'does not exist';
  return new LifeboatError('DEST_UNREACHABLE', `${link} is a link to ${target}, which ${what}`, {
    cause,
    hint: 'Mount the disk or share that the link leads to, in the Lifeboat container too. If you do not need the link, delete it.',
  });
}
