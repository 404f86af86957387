import { LifeboatError } from '../base/errors.ts';

/**
 * Checks the name of an object: parts joined by `/`, none empty, none starting with a dot (those names are for files
 * that are not objects: unfinished ones, `..`), no control characters, no part longer than a file name may be.
 *
 * @throws INTERNAL: keys are made by Lifeboat, never taken from outside unchecked
 */
export function checkKey(key: string): string {
  if (!isKey(key)) throw new LifeboatError('INTERNAL', `not a usable object name: ${JSON.stringify(key)}`);
  return key;
}

/** True for what can be the name of an object. */
export function isKey(key: string): boolean {
  return key.split('/').every(isPart) && key.isWellFormed();
}

/** The error for a key that is taken. */
export function alreadyThere(key: string): LifeboatError {
  return new LifeboatError('DEST_EXISTS', `${key} is stored already`);
}

/** Checks a prefix to list: empty, or a key followed by `/`. */
export function checkPrefix(prefix: string): string {
  if (prefix === '') return prefix;
  if (!prefix.endsWith('/')) throw new LifeboatError('INTERNAL', `a prefix must end with a slash: ${prefix}`);
  checkKey(prefix.slice(0, -1));
  return prefix;
}

/** Orders keys by their bytes in UTF-8, as S3 does. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function isPart(part: string): boolean {
  return part !== '' && !part.startsWith('.') && !/[\p{Cc}\\]/u.test(part) && Buffer.byteLength(part) <= 200;
}
