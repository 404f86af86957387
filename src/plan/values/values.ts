import type { Parsed, Parser, Refusal } from './fields.ts';
import { checkGlob } from './glob.ts';

/** Parses `true`, `yes`, `on`, `1` and their opposites, in any case. */
export function boolean(text: string): Parsed<boolean> {
  const word = text.trim().toLowerCase();
  if (['true', 'yes', 'on', '1'].includes(word)) return { value: true };
  if (['false', 'no', 'off', '0'].includes(word)) return { value: false };
  return { problem: 'is neither true nor false', hint: 'write "true" or "false"' };
}

/** One item of a list: in double quotes (a quote inside is doubled), or anything without quote and comma. */
const ITEM = /\s*(?:"((?:[^"]|"")*)"|([^",]*))\s*(,|$)/y;
/** The same, but a comma between braces does not end an item. Braces nested three deep need double quotes. */
const GLOB_ITEM = /\s*(?:"((?:[^"]|"")*)"|((?:\\[{}]|\{(?:[^"{}]|\{[^"{}]*\})*\}|[^",])*?))\s*(,|$)/y;

/**
 * Makes a parser of comma lists. Items are trimmed. An item with a comma, a quote or outer spaces needs double quotes,
 * and quotes inside it are doubled, as in CSV. Repeated items count once. `check` returns why an item is not valid.
 */
export function list(check: (item: string) => Refusal | undefined = () => undefined, form = ITEM): Parser<string[]> {
  return (text) => {
    const items = new Set<string>();
    const pattern = new RegExp(form);
    for (let end = ','; end === ','; ) {
      const match = pattern.exec(text);
      if (match === null) return { problem: 'has a stray quote', hint: 'write "a,b" for an item with a comma' };
      const item = match[1]?.replaceAll('""', '"') ?? match[2]!.trim();
      if (item === '') return { problem: 'has an empty item', hint: 'write items with a comma between them: a,b' };
      const wrong = item.includes('\0') ? { problem: 'has an item with a NUL byte' } : check(item);
      if (wrong !== undefined) return wrong;
      items.add(item);
      end = match[3]!;
    }
    return { value: [...items] };
  };
}

/** Parses a comma list of globs over the paths of a volume. */
export const globs = list(checkGlob, GLOB_ITEM);

/** One item of a list of patterns. Quotes are part of the item, and a comma inside quotes does not end it. */
const PATTERN = /((?:"(?:[^"]|"")*"|[^",])*)(,|$)/y;

/**
 * Parses a comma list of `pg_dump` patterns. Items keep their double quotes, which have a meaning in patterns:
 * `"Mixed"` is not `mixed`.
 */
export function patterns(text: string): Parsed<string[]> {
  const items = new Set<string>();
  const pattern = new RegExp(PATTERN);
  for (let end = ','; end === ','; ) {
    const match = pattern.exec(text);
    if (match === null) return { problem: 'has a stray quote', hint: 'quote a whole name: audit."Log"' };
    const item = match[1]!.trim();
    if (item === '') return { problem: 'has an empty item', hint: 'write items with a comma between them: a,b' };
    if (item.includes('\0')) return { problem: 'has an item with a NUL byte' };
    items.add(item);
    end = match[2]!;
  }
  return { value: [...items] };
}

/** Makes a parser of secrets, one a line, with a minimum length in characters. Ignores outer spaces and empty lines. */
export function secretLines(min: number): Parser<string[]> {
  return (text) => {
    const lines = text.split('\n').flatMap((line) => line.trim() || []);
    if (lines.length === 0) return { problem: 'is empty', hint: 'make one with `openssl rand -base64 32`' };
    if (lines.every(({ length }) => length >= min)) return { value: [...new Set(lines)] };
    return {
      problem: `has a line of fewer than ${min} characters`,
      hint: 'make one with `openssl rand -base64 32`; several keys go on lines of their own',
    };
  };
}

/** Parses `true`, `false`, or a comma list. */
export function booleanOrList(text: string): Parsed<boolean | string[]> {
  const whole = boolean(text);
  return 'value' in whole ? whole : list()(text);
}

/** Parses a percentage from `1%` to `100%` into a share of 1. */
export function percent(text: string): Parsed<number> {
  const [, digits] = /^(\d{1,3})\s*%?$/.exec(text.trim()) ?? [];
  const value = Number(digits ?? Number.NaN);
  if (value >= 1 && value <= 100) return { value: value / 100 };
  return { problem: 'is not a percentage', hint: 'write 1% to 100%' };
}

const UNITS: Readonly<Record<string, number>> = { w: 604_800_000, d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000 };

/** Makes a parser of durations such as `90s`, `15m`, `1h 30m`, `7d`, in milliseconds, between two inclusive bounds. */
export function duration(bounds: { min: string; max: string }): Parser<number> {
  const [min, max] = [milliseconds(bounds.min), milliseconds(bounds.max)];
  return (text) => {
    const value = milliseconds(text.trim().toLowerCase());
    if (Number.isNaN(value)) {
      return { problem: 'is not a duration', hint: 'write a number with s, m, h, d or w, such as 90s, 15m or 2h' };
    }
    if (value < min! || value > max!) return { problem: `is not between ${bounds.min} and ${bounds.max}` };
    return { value };
  };
}

function milliseconds(text: string): number {
  if (!/^\d{1,9}[wdhms](\s*\d{1,9}[wdhms])*$/.test(text)) return Number.NaN;
  let sum = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)([wdhms])/g)) sum += Number(count) * UNITS[unit!]!;
  return sum;
}

/** Makes a parser of whole numbers between two inclusive bounds. */
export function integer(min: number, max: number): Parser<number> {
  return (text) => {
    const value = /^\d{1,15}$/.test(text.trim()) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return { value };
    return { problem: `is not a whole number from ${min} to ${max}` };
  };
}

/** Makes a parser of a choice of words, in any case. */
export function oneOf<const T extends string>(words: readonly T[]): Parser<T> {
  return (text) => {
    const word = text.trim().toLowerCase();
    const value = words.find((each) => each === word);
    if (value !== undefined) return { value };
    return {
      problem: 'is not one of the possible values',
      hint: `write ${words.join(', ').replace(/, ([^,]*)$/, ' or $1')}`,
    };
  };
}

/**
 * Makes a parser of http and https addresses. `path`: the address must have a path, as a ping or webhook address does.
 */
export function url(options: { path: boolean }): Parser<string> {
  return (text) => {
    const trimmed = text.trim();
    if (!URL.canParse(trimmed) || /\s/.test(trimmed)) {
      return { problem: 'is not a URL', hint: 'write the whole address, starting with https://' };
    }
    const { protocol, pathname } = new URL(trimmed);
    if (protocol !== 'https:' && protocol !== 'http:') {
      return { problem: 'is not an http or https URL', hint: 'write the whole address, starting with https://' };
    }
    if (options.path && pathname === '/') {
      return { problem: 'names a host only', hint: 'write the whole address, with the part after the host' };
    }
    return { value: options.path ? trimmed : trimmed.replace(/\/+$/, '') };
  };
}

/** Makes a parser of text that matches a pattern. `form` is the hint for text that does not. */
export function matching(pattern: RegExp, form: string): Parser<string> {
  return (text) => {
    const value = text.trim();
    return pattern.test(value) ? { value } : { problem: 'does not have the right form', hint: form };
  };
}

/** Parses any text without NUL bytes, unchanged. */
export function text(given: string): Parsed<string> {
  return given.includes('\0') ? { problem: 'has a NUL byte' } : { value: given };
}
