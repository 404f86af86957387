import picomatch from 'picomatch';
import type { Refusal } from './fields.ts';

/** One glob without braces, compiled. */
export interface GlobPattern {
  /** takes a path as text, with `/` between its parts */
  matches(path: string): boolean;
  /** matches only the last part of a path */
  basename: boolean;
  directoriesOnly: boolean;
}

/** Most alternatives of a glob. More only cost time. */
const MAX_ALTERNATIVES = 100;
/**
 * Most ambiguous wildcards of a glob. A regular expression backtracks to each wildcard, once for each way in which the
 * earlier ones match. A wildcard is ambiguous if it can match in several ways: `**` before other parts, and every `*`
 * of a part except the first. In the worst case, a name of 255 characters takes seconds with three of them, and days
 * with five.
 */
const MAX_AMBIGUOUS = 3;
const MAX_GLOBSTARS = 2;

const OPTIONS = {
  dot: true,
  nonegate: true,
  noextglob: true,
  nobrace: true,
  literalBrackets: false,
  strictSlashes: true,
  windows: false,
};

/**
 * Compiles a glob. `*` and `?` match within one part, `**` as a whole part matches any number of parts, `[a-z]` and
 * `[!a-z]` are classes, `{a,b}` matches either alternative, and `\` quotes a character. A glob without a slash, except
 * at its end, matches a name at any level. Any other glob matches from the root. A trailing slash matches directories
 * only. Each alternative becomes a pattern.
 *
 * `**` together with other characters in a part is refused, because programs differ in its meaning. A glob that would
 * take too long is refused too.
 */
export function parseGlob(glob: string): { patterns: GlobPattern[] } | Refusal {
  const alternatives = expandBraces(glob);
  if (alternatives === undefined) return { problem: `has a glob of more than ${MAX_ALTERNATIVES} alternatives` };
  if (alternatives.some(hasStarsInName)) {
    return {
      problem: 'has a glob with ** as a part of a name',
      hint: 'write **/ for any directories, as in uploads/**/*.jpg for all names that end in .jpg',
    };
  }
  if (alternatives.some(isAmbiguous)) {
    return { problem: 'has a glob with more wildcards than can be matched in reasonable time' };
  }
  return { patterns: alternatives.flatMap(compile) };
}

/**
 * A token of a glob: a quoted character, a class, stars, or a literal character other than letters, digits and `/?`.
 */
const TOKEN = /\\.?|\[(?:([!^])|(?![!^]))((?:\\.|[^\\])(?:\\.|[^\\\]])*?)\]|\*+|[^\w\P{ASCII}/?]/gsu;
/** An innermost group in braces: the text before it, in it, and after it. */
const GROUP = /^((?:\\.|[^\\])*?)\{((?:\\.|[^\\{}])*)\}(.*)$/s;

/**
 * Checks a glob over the paths of a volume. Refuses special characters that would match literally, which is hardly ever
 * intended, unless a backslash quotes them.
 */
export function checkGlob(glob: string): Refusal | undefined {
  if (glob.startsWith('!')) return { problem: 'has a glob that starts with !; write the opposite label instead' };
  if (glob.split('/').some((part) => part === '..')) return { problem: 'has a glob with .. as a part' };
  if (/^[./]*$/.test(glob)) return { problem: 'has a glob that matches nothing inside the volume' };
  const parsed = parseGlob(glob);
  if ('problem' in parsed) return parsed;
  const tokens = expandBraces(glob)?.flatMap((each) => each.match(TOKEN) ?? []) ?? [];
  if (tokens.includes('[')) return { problem: 'has a glob with an open bracket' };
  if (tokens.some((token) => token === '{' || token === '}')) return { problem: 'has a glob with an open brace' };
  return undefined;
}

/**
 * Expands `a{b,c}d` to `abd` and `acd`. Braces without a comma or without a partner are literal. Undefined: too many
 * alternatives.
 */
function expandBraces(glob: string): string[] | undefined {
  const done: string[] = [];
  const open = new Set([glob]);
  for (const each of open) {
    const [group, before = '', inner = '', after = ''] = GROUP.exec(each) ?? [];
    const items = inner.replace(/\\.|,/gs, (token) => (token === ',' ? '\0' : token)).split('\0');
    if (group === undefined) done.push(each);
    else if (items.length === 1) open.add(`${before}\\{${inner}\\}${after}`);
    else for (const item of items) open.add(before + item + after);
    if (open.size > 10 * MAX_ALTERNATIVES || done.length > MAX_ALTERNATIVES) return undefined;
  }
  return done;
}

/** Returns the parts of a glob without braces, in which everything except stars is replaced by one character. */
function partsOf(glob: string): string[] {
  return glob.replace(TOKEN, (token) => (token.startsWith('*') ? token : 'x')).split('/');
}

function hasStarsInName(glob: string): boolean {
  return partsOf(glob).some((part) => part !== '**' && part.includes('**'));
}

function isAmbiguous(glob: string): boolean {
  const parts = partsOf(glob);
  const isGlobstar = (part: string) => part === '**';
  const globstars = parts.slice(0, -1).filter(isGlobstar).length;
  const stars = parts.filter((part) => !isGlobstar(part)).map((part) => part.split('*').length - 1);
  const all = stars.reduce((sum, count) => sum + Math.max(0, count - 1), globstars);
  return all > MAX_AMBIGUOUS || globstars > MAX_GLOBSTARS;
}

function compile(glob: string): GlobPattern[] {
  const trimmed = glob.replace(/\/+$/, '');
  const body = trimmed.replace(/^(\.?\/)+/, '');
  if (body === '') return [];
  const { output } = picomatch.parse(body.replace(TOKEN, forPicomatch), OPTIONS as object);
  const source = output.replace(
    /[\udc00-\udc7f]/gu,
    (stand) => `\\u{${(stand.charCodeAt(0) - STAND_IN).toString(16)}}`,
  );
  // With the flag u, `?` matches one code point, also beyond U+FFFF.
  const expression = new RegExp(`^(?:${source})$`, 'su');
  return [
    { matches: (path) => expression.test(path), basename: !trimmed.includes('/'), directoriesOnly: glob !== trimmed },
  ];
}

/** Rewrites a token for picomatch. */
function forPicomatch(token: string, negation: string | undefined, members: string | undefined): string {
  if (members !== undefined) return `[${negation ? '^' : ''}${classMembers(members)}]`;
  if (token.startsWith('*')) return token;
  return literal(token.startsWith('\\') ? token.slice(1) || '\\' : token);
}

/** Rewrites the members of a class, which never matches the slash. A reversed range is three characters. */
function classMembers(members: string): string {
  const chars = [...members.matchAll(/\\?(.)/gsu)].map(([, char = '']) => char);
  let result = '';
  for (let i = 0; i < chars.length; i++) {
    const from = chars[i] ?? '';
    const to = chars[i + 1] === '-' ? chars[i + 2] : undefined;
    if (to === undefined || from > to) result += from === '/' ? '' : literal(from);
    else {
      result += from <= '/' && '/' <= to ? rangeWithoutSlash(from, to) : `${literal(from)}-${literal(to)}`;
      i += 2;
    }
  }
  // picomatch does not accept an empty class. No path has a NUL byte.
  return result || literal('\0');
}

function rangeWithoutSlash(from: string, to: string): string {
  const [before, after] = [literal('.'), literal('0')];
  return `${from < '/' ? `${literal(from)}-${before}` : ''}${to > '/' ? `${after}-${literal(to)}` : ''}`;
}

/** Lone surrogates from here on stand in for characters that picomatch or regular expressions would interpret. */
const STAND_IN = 0xdc00;

function literal(char: string): string {
  return /^[\w\P{ASCII}]$/u.test(char) ? char : String.fromCharCode(STAND_IN + char.charCodeAt(0));
}
