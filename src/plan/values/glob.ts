import picomatch from 'picomatch';
import type { Refusal } from './fields.ts';

/** One glob without braces, compiled. */
export interface GlobPattern {
  /** for paths as text, `/` between their parts */
  matches(path: string): boolean;
  /** compared with the last part of a path only */
  basename: boolean;
  directoriesOnly: boolean;
}

/** Globs of many alternatives would only cost time, and hardly be meant. */
const MAX_ALTERNATIVES = 100;
/**
 * An expression goes back to each wildcard to try it elsewhere, once for each way in which the ones before it match. A
 * wildcard counts here when it can match in several ways: `**` before other parts, and all `*` of a part but the first.
 * With three of them a name of 255 characters takes seconds in the worst case, with five days.
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
 * Compiles a glob: `*` and `?` stay within one part, `**` as a whole part stands for any parts, `[a-z]` and `[!a-z]` are
 * classes, `{a,b}` is one or the other, `\` quotes. A glob without a slash (other than a trailing one) matches a name at any
 * level, any other one from the root. A trailing slash matches directories only. Braces make one pattern for each alternative.
 *
 * Programs differ in what `**` with other characters in its part means: it is refused, as is what would take too long.
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

/** Something quoted, a class, stars, or a character other than letters, digits and `/?`, which stands for itself. */
const TOKEN = /\\.?|\[(?:([!^])|(?![!^]))((?:\\.|[^\\])(?:\\.|[^\\\]])*?)\]|\*+|[^\w\P{ASCII}/?]/gsu;
/** A group that has no other in it: what is before, in, and after it. */
const GROUP = /^((?:\\.|[^\\])*?)\{((?:\\.|[^\\{}])*)\}(.*)$/s;

/**
 * What is wrong with a glob over the paths of a volume, if anything. Here characters are refused that would be taken
 * literally, which is hardly ever what was meant; with a backslash in front they are accepted.
 */
export function checkGlob(glob: string): Refusal | undefined {
  if (glob.startsWith('!')) return { problem: 'has a glob that starts with !; write the opposite label instead' };
  if (glob.split('/').some((part) => part === '..')) return { problem: 'has a glob with .. as a part' };
  if (/^[./]*$/.test(glob)) return { problem: 'has a glob that means nothing inside the volume' };
  const parsed = parseGlob(glob);
  if ('problem' in parsed) return parsed;
  const tokens = expandBraces(glob)?.flatMap((each) => each.match(TOKEN) ?? []) ?? [];
  if (tokens.includes('[')) return { problem: 'has a glob with an open bracket' };
  if (tokens.some((token) => token === '{' || token === '}')) return { problem: 'has a glob with an open brace' };
  return undefined;
}

/** `a{b,c}d` is `abd` and `acd`. Braces without a comma, or without their other half, are characters like others. */
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

/** The parts of a glob without braces: only their stars mean something, all else stands for one character. */
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
  // By code points, so that `?` is one character also beyond U+FFFF.
  const expression = new RegExp(`^(?:${source})$`, 'su');
  return [
    { matches: (path) => expression.test(path), basename: !trimmed.includes('/'), directoriesOnly: glob !== trimmed },
  ];
}

/** The same token as picomatch has to see it. */
function forPicomatch(token: string, negation: string | undefined, members: string | undefined): string {
  if (members !== undefined) return `[${negation ? '^' : ''}${classMembers(members)}]`;
  if (token.startsWith('*')) return token;
  return literal(token.startsWith('\\') ? token.slice(1) || '\\' : token);
}

/** A class never matches the slash, whatever its ranges span. A range the wrong way round is three characters. */
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
  // No path has a NUL byte: an empty class is none to picomatch.
  return result || literal('\0');
}

function rangeWithoutSlash(from: string, to: string): string {
  const [before, after] = [literal('.'), literal('0')];
  return `${from < '/' ? `${literal(from)}-${before}` : ''}${to > '/' ? `${after}-${literal(to)}` : ''}`;
}

/** Half of a character, which no text has, in place of one that might mean something to picomatch or in an expression. */
const STAND_IN = 0xdc00;

function literal(char: string): string {
  return /^[\w\P{ASCII}]$/u.test(char) ? char : String.fromCharCode(STAND_IN + char.charCodeAt(0));
}
