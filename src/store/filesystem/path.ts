import { isUtf8 } from 'node:buffer';

/**
 * A path inside a tree. Names on Linux need not be UTF-8, so the string has one character per byte (latin1). Parts are
 * separated by `/`, and the root of the tree is the empty string.
 */
export type TreePath = string;

const ASCII = /^\p{ASCII}*$/u;
const SLASH = 0x2f;

/**
 * Orders paths bytewise, with `/` below every other byte. A depth-first walk over sorted names yields this order, so
 * two indexes can be merged as streams.
 */
export function comparePaths(a: TreePath, b: TreePath): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    // A path never contains NUL, so 0 can represent the slash.
    if (x !== y) return (x === SLASH ? 0 : x) - (y === SLASH ? 0 : y);
  }
  return a.length - b.length;
}

/** Returns the directory that holds `path`: the root for a name at the top. */
export function parentOf(path: TreePath): TreePath {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

/** Splits a path into its directory and its last name. */
export function split(path: TreePath): { parent: TreePath; name: string } {
  const parent = parentOf(path);
  return { parent, name: parent === '' ? path : path.slice(parent.length + 1) };
}

/**
 * Returns whether a path is relative and stays inside its root: no empty part, `.`, `..` or NUL. The root itself is
 * safe.
 */
export function isSafePath(path: TreePath): boolean {
  if (path === '') return true;
  if (path.includes('\0')) return false;
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}

/** Returns `path` as text, or undefined if it is not UTF-8. */
export function pathToText(path: TreePath): string | undefined {
  if (ASCII.test(path)) return path;
  const bytes = Buffer.from(path, 'latin1');
  return isUtf8(bytes) ? bytes.toString('utf8') : undefined;
}

/** The inverse of {@link pathToText}. */
export function pathFromText(text: string): TreePath {
  return ASCII.test(text) ? text : Buffer.from(text, 'utf8').toString('latin1');
}

/** Returns a path as text for messages only: bytes that are not UTF-8 appear as U+FFFD. */
export function displayPath(path: TreePath): string {
  return Buffer.from(path, 'latin1').toString('utf8') || '.';
}

/** Length of the longest path that messages show in full, in characters. */
const MAX_SHOWN = 240;

/** Returns a path for messages: like {@link displayPath}, but a long path loses its middle. */
export function shortPath(path: TreePath): string {
  return shorten(displayPath(path));
}

/** Cuts the middle out of a long text that is a path or ends with one. */
export function shorten(text: string): string {
  const characters = text.length > MAX_SHOWN ? Array.from(text) : [];
  if (characters.length <= MAX_SHOWN) return text;
  const half = MAX_SHOWN / 2;
  return `${characters.slice(0, half).join('')}…${characters.slice(1 - half).join('')}`;
}

/** A path in JSON: text if it is UTF-8, otherwise its bytes in base64. */
export type EncodedPath = { text: string } | { base64: string };

/** See {@link EncodedPath}. */
export function encodePath(path: TreePath): EncodedPath {
  const text = pathToText(path);
  return text === undefined ? { base64: Buffer.from(path, 'latin1').toString('base64') } : { text };
}

/** The inverse of {@link encodePath}. Returns undefined for any other form, so every path has exactly one. */
export function decodePath(encoded: EncodedPath): TreePath | undefined {
  if ('text' in encoded) return encoded.text.isWellFormed() ? pathFromText(encoded.text) : undefined;
  const bytes = Buffer.from(encoded.base64, 'base64');
  if (bytes.toString('base64') !== encoded.base64 || isUtf8(bytes)) return undefined;
  return bytes.toString('latin1');
}

// Control characters, and characters that zip programs treat as special. `%` is included so that the encoding has an
// inverse.
const UNSAFE_IN_ENTRY = /[\p{Cc}\\%]/u;
// A drive letter at the start, which zip programs remove.
const DRIVE = /^\w+:/;

/**
 * Returns the entry name of a file's content in a pack: the path itself if every zip program preserves it. Otherwise
 * every byte except letters, digits and `-._~/` is percent-encoded. Entry names never decide where a file is restored
 * to; the index does.
 */
export function entryName(path: TreePath): string {
  const text = pathToText(path);
  if (text !== undefined && !UNSAFE_IN_ENTRY.test(text) && !DRIVE.test(text)) return text;
  return percentEncode(path, /[A-Za-z0-9._~/-]/);
}

/** The inverse of {@link entryName}. */
export function pathOfEntry(name: string): TreePath {
  return pathFromText(name).replace(/%([0-9A-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function percentEncode(path: TreePath, keep: RegExp): string {
  let result = '';
  for (const char of path) {
    result += keep.test(char) ? char : `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return result;
}

/** Returns a function that makes paths for system calls: `root` is an absolute path, `path` is relative to it. */
export function pathUnder(root: string): (path: TreePath) => Buffer {
  const prefix = Buffer.from(root, 'utf8').toString('latin1').replace(/\/+$/, '');
  return (path) => Buffer.from(path === '' ? prefix || '/' : `${prefix}/${path}`, 'latin1');
}

/** Returns whether `path` is `directory` or inside it. */
export function isWithin(path: TreePath, directory: TreePath): boolean {
  return directory === '' || path === directory || path.startsWith(`${directory}/`);
}
