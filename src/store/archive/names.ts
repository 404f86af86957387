import { pathToText, type TreePath } from '../filesystem/path.ts';

/**
 * Names in archives. Zip and tar writers take text, and change backslashes, drive letters and what is not UTF-8. Such a name is
 * written percent-encoded, and the entry carries its bytes in a note of its own, so that an import finds it again.
 */

const CHANGED = /\\|^\w+:|^\.\.\//;

/** The bytes of names that an archive cannot carry, base64. */
export interface OddNames {
  path?: string;
  target?: string;
}

/** The name that an entry of an archive gets. `odd`: it is not the name itself. */
export function archiveName(path: TreePath): { name: string; odd: boolean } {
  const text = pathToText(path);
  if (text !== undefined && !CHANGED.test(text)) return { name: text, odd: false };
  return { name: percentEncode(path), odd: true };
}

/** What a symlink in an archive says: any text stays as it is, since it is no name in the archive. */
export function symlinkText(target: TreePath): { name: string; odd: boolean } {
  const text = pathToText(target);
  return text === undefined ? { name: percentEncode(target), odd: true } : { name: text, odd: false };
}

function percentEncode(path: TreePath): string {
  return path.replace(/[^A-Za-z0-9._~/-]/g, (char) => {
    return `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
  });
}

const PREFIX = 'lifeboat ';

/** The note that goes with an entry: the comment of a zip entry, or the value of a pax keyword. */
export function encodeOddNames(odd: OddNames): string {
  return PREFIX + JSON.stringify(odd);
}

/** The inverse of {@link encodeOddNames}; undefined for any other text. The names may be anything: they are checked by their use. */
export function decodeOddNames(note: string): { path?: TreePath; target?: TreePath } | undefined {
  if (!note.startsWith(PREFIX)) return undefined;
  try {
    const { path, target } = JSON.parse(note.slice(PREFIX.length)) as Record<string, unknown>;
    return {
      ...(typeof path === 'string' ? { path: Buffer.from(path, 'base64').toString('latin1') } : {}),
      ...(typeof target === 'string' ? { target: Buffer.from(target, 'base64').toString('latin1') } : {}),
    };
  } catch {
    return undefined;
  }
}

/** The pax keyword of the note; a keyword of a vendor has its name in capitals before the dot (POSIX, pax, "pax Extended Header"). */
export const PAX_KEYWORD = 'LIFEBOAT.names';

export const toBase64 = (path: TreePath) => Buffer.from(path, 'latin1').toString('base64');
