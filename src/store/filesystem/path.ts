import { isUtf8 } from 'node:buffer';

/**
 * A path inside a tree is a string of bytes: names on Linux need not be UTF-8. In memory it is a string with one
 * character per byte (latin1), `/` between its parts, and empty for the tree's root.
 */
export type TreePath = string;

const ASCII = /^\p{ASCII}*$/u;
const SLASH = 0x2f;

/**
 * Orders paths bytewise, with `/` below every other byte. In this order a depth-first walk over sorted names is sorted,
 * so that two indexes merge as streams.
 */
export function comparePaths(a: TreePath, b: TreePath): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    // NUL never occurs in a path, so 0 is free to stand for the slash.
    if (x !== y) return (x === SLASH ? 0 : x) - (y === SLASH ? 0 : y);
  }
  return a.length - b.length;
}

/** The directory that holds `path`; the root for a name at the top. */
export function parentOf(path: TreePath): TreePath {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

/** The directory part and the last name of a path. */
export function split(path: TreePath): { parent: TreePath; name: string } {
  const parent = parentOf(path);
  return { parent, name: parent === '' ? path : path.slice(parent.length + 1) };
}

/** True for a relative path that stays inside its root: no empty part, `.`, `..` or NUL. The root itself counts as safe. */
export function isSafePath(path: TreePath): boolean {
  if (path === '') return true;
  if (path.includes('\0')) return false;
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}

/** The bytes of `path` as text, or undefined where they are not UTF-8. */
export function pathToText(path: TreePath): string | undefined {
  if (ASCII.test(path)) return path;
  const bytes = Buffer.from(path, 'latin1');
  return isUtf8(bytes) ? bytes.toString('utf8') : undefined;
}

/** The inverse of {@link pathToText}. */
export function pathFromText(text: string): TreePath {
  return ASCII.test(text) ? text : Buffer.from(text, 'utf8').toString('latin1');
}

/** For messages only: bytes that are not UTF-8 appear as U+FFFD. */
export function displayPath(path: TreePath): string {
  return Buffer.from(path, 'latin1').toString('utf8') || '.';
}

/** Longest path that a message shows whole, in characters. */
const MAX_SHOWN = 240;

/** A path for messages: like {@link displayPath}, and a long one without its middle. */
export function shortPath(path: TreePath): string {
  return shorten(displayPath(path));
}

/** Text that is a path, or ends with one, without its middle where it is long. */
export function shorten(text: string): string {
  const characters = text.length > MAX_SHOWN ? Array.from(text) : [];
  if (characters.length <= MAX_SHOWN) return text;
  const half = MAX_SHOWN / 2;
  return `${characters.slice(0, half).join('')}…${characters.slice(1 - half).join('')}`;
}

/** A path in JSON: as text where it is UTF-8, else as base64 of its bytes. */
export type EncodedPath = { text: string } | { base64: string };

/** See {@link EncodedPath}. */
export function encodePath(path: TreePath): EncodedPath {
  const text = pathToText(path);
  return text === undefined ? { base64: Buffer.from(path, 'latin1').toString('base64') } : { text };
}

/** The inverse of {@link encodePath}; undefined for what it never produces, so that every path has one form only. */
export function decodePath(encoded: EncodedPath): TreePath | undefined {
  if ('text' in encoded) return encoded.text.isWellFormed() ? pathFromText(encoded.text) : undefined;
  const bytes = Buffer.from(encoded.base64, 'base64');
  if (bytes.toString('base64') !== encoded.base64 || isUtf8(bytes)) return undefined;
  return bytes.toString('latin1');
}

// Control characters, and what zip programs treat as special. `%` is among them so that encoding has an inverse.
const UNSAFE_IN_ENTRY = /[\p{Cc}\\%]/u;
// A drive letter in front: zip programs cut it off.
const DRIVE = /^\w+:/;

/**
 * The name a file's content has inside a pack: the path itself where every zip program keeps it as it is, else the path
 * with every byte but letters, digits and `-._~/` percent-encoded. Entry names never decide where a file is restored
 * to: the index does.
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

/** Makes the path that the operating system is asked for: `root` is an absolute path, `path` one inside it. */
export function pathUnder(root: string): (path: TreePath) => Buffer {
  const prefix = Buffer.from(root, 'utf8').toString('latin1').replace(/\/+$/, '');
  return (path) => Buffer.from(path === '' ? prefix || '/' : `${prefix}/${path}`, 'latin1');
}

/** True when `path` is `directory` or lies in it. */
export function isWithin(path: TreePath, directory: TreePath): boolean {
  return directory === '' || path === directory || path.startsWith(`${directory}/`);
}
