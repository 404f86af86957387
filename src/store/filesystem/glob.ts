import { pathToText, type TreePath } from './path.ts';

/** Decides about paths of a tree. `directory` says whether the path is one. */
export type PathPredicate = (path: TreePath, directory: boolean) => boolean;

interface Pattern {
  expression: RegExp;
  /** matched against the last part only */
  basename: boolean;
  directoriesOnly: boolean;
}

/**
 * Compiles globs: `*` and `?` stay within one part, `**` crosses parts, `[a-z]` and `[!a-z]` are classes, `\` quotes.
 * A glob without a slash (other than a trailing one) matches a name at any level, any other one from the root. A
 * trailing slash matches directories only.
 */
export function compileGlobs(globs: readonly string[]): PathPredicate {
  const patterns = globs.filter((glob) => glob !== '').map(compile);
  return (path, directory) => {
    if (path === '' || patterns.length === 0) return false;
    // Where the bytes are not UTF-8 each byte counts as one character.
    const whole = pathToText(path) ?? path;
    const name = whole.slice(whole.lastIndexOf('/') + 1);
    return patterns.some((p) => (directory || !p.directoriesOnly) && p.expression.test(p.basename ? name : whole));
  };
}

/**
 * True for a path that a glob matches, or that lies in a directory that one matches. Globs may also be plain paths:
 * `uploads/2026` selects all below it.
 */
export function selectByGlobs(globs: readonly string[]): (path: TreePath, directory: boolean) => boolean {
  const matches = compileGlobs(globs);
  return (path, directory) => {
    if (matches(path, directory)) return true;
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      if (matches(path.slice(0, at), true)) return true;
    }
    return false;
  };
}

function compile(glob: string): Pattern {
  const directoriesOnly = glob.endsWith('/');
  const trimmed = glob.replace(/\/+$/, '');
  const body = trimmed.replace(/^(\.?\/)+/, '');
  const basename = !trimmed.includes('/');
  return { expression: new RegExp(`^${translate(body)}$`, 'su'), basename, directoriesOnly };
}

function translate(glob: string): string {
  const chars = [...glob];
  let result = '';
  for (let i = 0; i < chars.length; i++) {
    const char = chars[i]!;
    if (char === '*' && chars[i + 1] === '*') {
      while (chars[i + 1] === '*') i++;
      // `a/**/b` also means `a/b`.
      const wholePart = (result === '' || result.endsWith('/')) && chars[i + 1] === '/';
      if (wholePart) i++;
      result += wholePart ? '(?:[^/]+/)*' : '.*';
    } else if (char === '*') result += '[^/]*';
    else if (char === '?') result += '[^/]';
    else if (char === '[') {
      const end = chars.indexOf(']', i + 2 + (chars[i + 1] === '!' || chars[i + 1] === '^' ? 1 : 0));
      if (end < 0) result += '\\[';
      else {
        result += characterClass(chars.slice(i + 1, end));
        i = end;
      }
    } else if (char === '\\' && i + 1 < chars.length) result += quote(chars[++i]!);
    else result += quote(char);
  }
  return result;
}

function characterClass(members: string[]): string {
  const negated = members[0] === '!' || members[0] === '^';
  const ranges: string[] = [];
  const list = negated ? members.slice(1) : members;
  for (let i = 0; i < list.length; i++) {
    const from = list[i]!;
    const to = list[i + 1] === '-' ? list[i + 2] : undefined;
    if (to !== undefined && from <= to) {
      ranges.push(`${member(from)}-${member(to)}`);
      i += 2;
    } else ranges.push(member(from));
  }
  // A class never matches the slash, whatever its ranges span.
  return `(?!/)[${negated ? '^' : ''}${ranges.join('')}]`;
}

function quote(char: string): string {
  return /[\\^$.*+?()[\]{}|/]/.test(char) ? `\\${char}` : char;
}

function member(char: string): string {
  return char === '-' ? '\\-' : quote(char);
}
