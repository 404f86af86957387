import type { Parsed, Parser, Refusal } from './fields.ts';
import { checkGlob } from './glob.ts';

/** `true`, `yes`, `on`, `1` and their opposites, in any case. */
export function boolean(text: string): Parsed<boolean> {
  const word = text.trim().toLowerCase();
  if (['true', 'yes', 'on', '1'].includes(word)) return { value: true };
  if (['false', 'no', 'off', '0'].includes(word)) return { value: false };
  return { problem: 'is neither true nor false', hint: 'write "true" or "false"' };
}

/** One item of a list: in double quotes (a quote inside is doubled), or anything without quote and comma. */
const ITEM = /\s*(?:"((?:[^"]|"")*)"|([^",]*))\s*(,|$)/y;
/** The same, where a comma between braces does not end an item. Braces in braces in braces need double quotes. */
const GLOB_ITEM = /\s*(?:"((?:[^"]|"")*)"|((?:\\[{}]|\{(?:[^"{}]|\{[^"{}]*\})*\}|[^",])*?))\s*(,|$)/y;

/**
 * A comma list. Items are trimmed; one with a comma, a quote or spaces at its ends goes in double quotes, with quotes
 * inside it doubled, as in CSV. Repeated items count once. `check` says what is wrong with an item.
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

/** A comma list of globs over the paths of a volume. */
export const globs = list(checkGlob, GLOB_ITEM);

/** One item of a list of patterns: quotes are part of it, and a comma inside them does not end it. */
const PATTERN = /((?:"(?:[^"]|"")*"|[^",])*)(,|$)/y;

/**
 * A comma list of `pg_dump` patterns, in which double quotes have a meaning of their own: `"Mixed"` is not `mixed`. They are
 * handed on as they are.
 */
export function patterns(text: string): Parsed<string[]> {
  const items = new Set<string>();
  const pattern = new RegExp(PATTERN);
  for (let end = ','; end === ','; ) {
    const match = pattern.exec(text);
    if (match === null)
      return { problem: 'has a stray quote', hint: 'write names in double quotes whole: audit."Log"' };
    const item = match[1]!.trim();
    if (item === '') return { problem: 'has an empty item', hint: 'write items with a comma between them: a,b' };
    if (item.includes('\0')) return { problem: 'has an item with a NUL byte' };
    items.add(item);
    end = match[2]!;
  }
  return { value: [...items] };
}

/** One secret a line, each of at least so many characters. Spaces around them and empty lines do not count. */
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

/** `true`, `false`, or a comma list. */
export function booleanOrList(text: string): Parsed<boolean | string[]> {
  const whole = boolean(text);
  return 'value' in whole ? whole : list()(text);
}

/** A percentage from `1%` to `100%`, as a share of 1. */
export function percent(text: string): Parsed<number> {
  const [, digits] = /^(\d{1,3})\s*%?$/.exec(text.trim()) ?? [];
  const value = Number(digits ?? Number.NaN);
  if (value >= 1 && value <= 100) return { value: value / 100 };
  return { problem: 'is not a percentage', hint: 'write 1% to 100%' };
}

const UNITS: Readonly<Record<string, number>> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000 };

/** A duration such as `90s`, `15m`, `1h 30m`, `7d`, in milliseconds, between two bounds (inclusive). */
export function duration(bounds: { min: string; max: string }): Parser<number> {
  const [min, max] = [milliseconds(bounds.min), milliseconds(bounds.max)];
  return (text) => {
    const value = milliseconds(text.trim().toLowerCase());
    if (Number.isNaN(value)) {
      return { problem: 'is not a duration', hint: 'write a number with s, m, h or d, such as 90s, 15m or 2h' };
    }
    if (value < min! || value > max!) return { problem: `is not between ${bounds.min} and ${bounds.max}` };
    return { value };
  };
}

function milliseconds(text: string): number {
  if (!/^\d{1,9}[dhms](\s*\d{1,9}[dhms])*$/.test(text)) return Number.NaN;
  let sum = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)([dhms])/g)) sum += Number(count) * UNITS[unit!]!;
  return sum;
}

/** A whole number between two bounds (inclusive). */
export function integer(min: number, max: number): Parser<number> {
  return (text) => {
    const value = /^\d{1,15}$/.test(text.trim()) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return { value };
    return { problem: `is not a whole number from ${min} to ${max}` };
  };
}

/** One of some words, in any case. */
export function oneOf<const T extends string>(words: readonly T[]): Parser<T> {
  return (text) => {
    const word = text.trim().toLowerCase();
    const value = words.find((each) => each === word);
    if (value !== undefined) return { value };
    return {
      problem: 'is not one of the words it can be',
      hint: `write ${words.join(', ').replace(/, ([^,]*)$/, ' or $1')}`,
    };
  };
}

/** An http or https address. `path`: it must name something below the host, as a ping or webhook address does. */
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

/** Text that matches a pattern; `form` says how it must look. */
export function matching(pattern: RegExp, form: string): Parser<string> {
  return (text) => {
    const value = text.trim();
    return pattern.test(value) ? { value } : { problem: 'has characters that cannot be used', hint: form };
  };
}

/** Any text without NUL bytes, kept as it is. */
export function text(given: string): Parsed<string> {
  return given.includes('\0') ? { problem: 'has a NUL byte' } : { value: given };
}
