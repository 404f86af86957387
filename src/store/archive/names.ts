import { pathToText, type TreePath } from '../filesystem/path.ts';

/**
 * Names in archives. Zip and tar writers accept text only, and change backslashes, drive letters and bytes that are not
 * UTF-8. Such a name is percent-encoded, and the entry carries its bytes in a note, from which an import restores them.
 */

const CHANGED = /\\|^\w+:|^\.\.\//;

/** The bytes of names that an archive cannot hold, in base64. */
export interface OddNames {
  path?: string;
  target?: string;
}

/** Returns the name of an entry in an archive. `odd`: the name is encoded. */
export function archiveName(path: TreePath): { name: string; odd: boolean } {
  const text = pathToText(path);
  if (text !== undefined && !CHANGED.test(text)) return { name: text, odd: false };
  return { name: percentEncode(path), odd: true };
}

/** Returns the target of a symlink in an archive. All text stays as it is, because it is not a name in the archive. */
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

/** Returns the note for an entry: the comment of a zip entry, or the value of a pax keyword. */
export function encodeOddNames(odd: OddNames): string {
  return PREFIX + JSON.stringify(odd);
}

/**
 * The inverse of {@link encodeOddNames}. Returns undefined for other text. The names are not checked here, but where
 * they are used.
 */
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

/**
 * The pax keyword of the note. Vendor keywords start with the vendor's name in capitals and a dot (POSIX, pax, "pax
 * Extended Header").
 */
export const PAX_KEYWORD = 'LIFEBOAT.names';

export const toBase64 = (path: TreePath) => Buffer.from(path, 'latin1').toString('base64');
