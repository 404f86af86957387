import { createHash } from 'node:crypto';
import { closeSync, fstatSync, fsyncSync, readFileSync, writeFileSync } from 'node:fs';
import { areaName } from '../filesystem/area.ts';
import type { Directory, DirectoryMeta } from '../filesystem/directory.ts';
import { disturbed } from '../filesystem/disturbed.ts';
import { type AreaRecord, checkInPlace, enterArea, isOwn } from './own-area.ts';

/** The owner, mode and time that the root of a volume had before a restore, as a file in the area of the new data. */

interface RootBase extends DirectoryMeta {
  /** the time of the root right after the areas were made; absent in files of older versions */
  madeAt?: bigint;
}

/** The name of the file. */
export const BASE = 'base.json';
/** Upper bound for the size of {@link BASE}, bytes. */
const MAX_BASE = 4096;

/**
 * Returns the owner, mode and time of the root without the effect of making the areas. Services may have changed the
 * root since then.
 *
 * @throws TREE_TARGET_REFUSED if another program has moved or changed an area
 */
export function rootBefore(root: Directory, id: string, record: AreaRecord): DirectoryMeta {
  checkInPlace(root, id, record);
  const name = areaName('restoring', id);
  const area = enterArea(root, name, record.restoring);
  const base = area && readBase(area, record.base);
  area?.close();
  if (base) {
    const now = root.meta();
    return { ...now, mtime: base.madeAt === undefined || base.madeAt === now.mtime ? base.mtime : now.mtime };
  }
  throw disturbed(`${name} lacks the file ${BASE} that Lifeboat made`);
}

/** Writes the file, durably. */
export function writeBase(area: Directory, base: string): void {
  const file = area.createFile(BASE);
  try {
    writeFileSync(file, base);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Returns the SHA-256 of the file, hexadecimal. */
export function sumBase(base: string): string {
  return createHash('sha256').update(base).digest('hex');
}

/**
 * Returns the content of the file.
 *
 * @param before metadata from before the areas were made
 * @param madeAt time of the root after that
 */
export function encodeBase(before: DirectoryMeta, madeAt: bigint): string {
  return JSON.stringify({ ...before, mtime: String(before.mtime), madeAt: String(madeAt) });
}

/**
 * Returns the recorded metadata of the root, or undefined if Lifeboat did not write the file.
 *
 * @param sha256 of the file, if it is known: another program may have changed the owner
 */
export function readBase(area: Directory, sha256: string | undefined): RootBase | undefined {
  let file: number | undefined;
  try {
    file = area.openFile(BASE);
    const stat = fstatSync(file, { bigint: true });
    if (!stat.isFile() || stat.size > MAX_BASE) return undefined;
    const text = readFileSync(file, 'utf8');
    const isOurs = sha256 === undefined ? stat.nlink === 1n && isOwn(area, stat) : sumBase(text) === sha256;
    if (!isOurs) return undefined;
    const { mode, uid, gid, mtime, madeAt } = JSON.parse(text) as RootBase;
    if (![mode, uid, gid].every((number) => Number.isSafeInteger(number) && number >= 0)) return undefined;
    const made = madeAt === undefined ? {} : { madeAt: BigInt(madeAt) };
    return { mode: mode & 0o7777, uid, gid, mtime: BigInt(mtime), ...made };
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
