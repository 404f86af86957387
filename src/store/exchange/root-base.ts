import { createHash, randomUUID } from 'node:crypto';
import { closeSync, fstatSync, fsyncSync, readFileSync, writeFileSync } from 'node:fs';
import type { Directory } from '../filesystem/directory.ts';

/**
 * A file in the area of the new data, with the time that the root of the volume had before the restore. It also proves
 * that the area is the recorded one: it holds a random number, and the journal has its SHA-256.
 */

/** The name of the file. */
export const BASE = 'base.json';
/** Upper bound for the size of {@link BASE}, bytes. */
const MAX_BASE = 4096;

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

/** Returns the content of the file. `mtime`: of the root, nanoseconds since 1970. */
export function encodeBase(mtime: bigint): string {
  return JSON.stringify({ mtime: String(mtime), random: randomUUID() });
}

/**
 * Returns the recorded time of the root, nanoseconds since 1970; undefined if the area has no such file.
 *
 * @param sha256 of the file, hexadecimal
 */
export function readBase(area: Directory, sha256: string): bigint | undefined {
  let file: number | undefined;
  try {
    file = area.openFile(BASE);
    const stat = fstatSync(file, { bigint: true });
    if (!stat.isFile() || stat.size > MAX_BASE) return undefined;
    const text = readFileSync(file, 'utf8');
    return sumBase(text) === sha256 ? BigInt((JSON.parse(text) as { mtime: string }).mtime) : undefined;
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
