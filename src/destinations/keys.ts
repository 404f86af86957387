import { LifeboatError } from '../base/errors.ts';

/**
 * Checks the name of an object: parts joined by `/`, without control characters. A part is not empty, not longer than a
 * file name may be, and does not start with a dot, because such names belong to other files: unfinished ones, `..`.
 *
 * @throws INTERNAL, because Lifeboat makes all keys itself and never takes one from outside unchecked
 */
export function checkKey(key: string): string {
  if (!isKey(key)) throw new LifeboatError('INTERNAL', `not a usable object name: ${JSON.stringify(key)}`);
  return key;
}

/** Returns true if a string is a valid object name. */
export function isKey(key: string): boolean {
  return key.split('/').every(isPart) && key.isWellFormed();
}

/** Returns the error for a key that exists already. */
export function alreadyThere(key: string): LifeboatError {
  return new LifeboatError('DEST_EXISTS', `${key} is stored already`);
}

/** Checks a prefix to list: it is empty, or a key followed by `/`. */
export function checkPrefix(prefix: string): string {
  if (prefix === '') return prefix;
  if (!prefix.endsWith('/')) throw new LifeboatError('INTERNAL', `a prefix must end with a slash: ${prefix}`);
  checkKey(prefix.slice(0, -1));
  return prefix;
}

/**
 * Returns true for the key of a pack. Only packs may be stored where objects are slow or costly to reach: every run
 * reads and replaces the other objects.
 */
export function isPackKey(key: string): boolean {
  return /^[^/]+\/packs\//.test(key);
}

/** Compares keys by their UTF-8 bytes, as S3 does. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** Returns whether a key follows another one in that order, see `after` of a listing. */
export function isAfter(key: string, after: string | undefined): boolean {
  return after === undefined || compareKeys(key, after) > 0;
}

function isPart(part: string): boolean {
  return part !== '' && !part.startsWith('.') && !/[\p{Cc}\\]/u.test(part) && Buffer.byteLength(part) <= 200;
}
