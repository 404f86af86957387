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
 * Returns the entries of a directory, with links to directories as directories. A link to the root or into it gives no second
 * names.
 *
 * @throws DEST_UNREACHABLE below the root for a link that leads nowhere: a disk or share is not mounted
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
    // At the root there may be links that have nothing to do with backups.
    if (target === undefined && prefix !== '' && !name.startsWith('.')) throw await leadsNowhere(link);
    if (target === undefined || `${target}/`.startsWith(inside) || inside.startsWith(`${target}/`)) continue;
    if ((await stat(target).catch(() => undefined))?.isDirectory()) followed.add(name);
  }
  return entries.map((entry) =>
    followed.has(entry.name) ? { name: entry.name, isDirectory: () => true, isFile: () => false } : entry,
  );
}

/**
 * Finds why nothing can be below a key or prefix: one of the directories above is a link that leads nowhere, or a file.
 * Undefined if they are directories or do not exist. With `onlyLinks` a file does not count: it may be another object.
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
        hint: 'The backups need a directory of that name. Move what is there away, or mount the disk or share that belongs there.',
      });
    }
  }
  return undefined;
}

async function leadsNowhere(link: string): Promise<LifeboatError> {
  const target = await readlink(link).catch(() => 'another place');
  const cause = await stat(link).then(
    () => undefined,
    (error: unknown) => error,
  );
  const what = hasErrno(cause, 'ELOOP') ? 'leads back to itself' : 'is not there';
  return new LifeboatError('DEST_UNREACHABLE', `${link} is a link to ${target}, which ${what}`, {
    cause,
    hint: 'Mount the disk or share that the link leads to, also into the container of Lifeboat. If the link is of no use, delete it.',
  });
}
