import { createHash, randomUUID } from 'node:crypto';
import { closeSync, fstatSync, fsyncSync, readFileSync, writeFileSync } from 'node:fs';
import type { Directory } from '../filesystem/directory.ts';

/**
 * A file in the area of the new data, with the time that the root of the volume had before the restore. It also proves
 * that the area is the recorded one: it holds a random number, and the journal has its SHA-256.
 */

/** Times of the root, nanoseconds since 1970. */
interface RootBase {
  /** before the areas were made */
  mtime: bigint;
  /** right after that */
  madeAt: bigint;
}

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

/** Returns the content of the file. */
export function encodeBase({ mtime, madeAt }: RootBase): string {
  return JSON.stringify({ mtime: String(mtime), madeAt: String(madeAt), random: randomUUID() });
}

/**
 * Returns the recorded times of the root; undefined if the area has no such file.
 *
 * @param sha256 of the file, hexadecimal
 */
export function readBase(area: Directory, sha256: string): RootBase | undefined {
  let file: number | undefined;
  try {
    file = area.openFile(BASE);
    const stat = fstatSync(file, { bigint: true });
    if (!stat.isFile() || stat.size > MAX_BASE) return undefined;
    const text = readFileSync(file, 'utf8');
    if (sumBase(text) !== sha256) return undefined;
    const { mtime, madeAt } = JSON.parse(text) as Record<keyof RootBase, string>;
    return { mtime: BigInt(mtime), madeAt: BigInt(madeAt) };
  } catch {
    return undefined;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
