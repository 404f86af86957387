import { didYouMean } from './suggest.ts';

/**
 * Why a text is not valid. `problem` follows the key and the value in a message (`lifeboat.keep "7"` + `has no unit`)
 * and never repeats the value, which may be a secret.
 */
export interface Refusal {
  problem: string;
  hint?: string;
}

/**
 * The result of a parser: the value, or why the text is not valid. `hidden`: the text may contain a secret although its
 * field is not secret.
 */
export type Parsed<T> = { value: T } | (Refusal & { hidden?: true });

export type Parser<T> = (text: string) => Parsed<T>;

/** One row of a table: a label or a setting. */
export interface Field<T = unknown> {
  parse: Parser<T>;
  /** the form of the value, for the docs: `true`, a duration */
  form: string;
  /** description for the docs: one line of Markdown */
  doc: string;
  /** the default, as a user would write it */
  default?: string;
  /** the value never appears in a message */
  secret?: true;
  /** at least one of these keys must be set too */
  needs?: readonly string[];
}

export type Fields = Readonly<Record<string, Field>>;

type ValueOf<F> = F extends { parse: Parser<infer T> } ? T : never;

/**
 * The typed values of a table. Rows with a default always have a value. A row that ends in `.*` has a value for each
 * key, by the end of the key.
 */
export type Values<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends { default: string }
    ? ValueOf<F[K]>
    : (K extends `${string}.*` ? Readonly<Record<string, ValueOf<F[K]>>> : ValueOf<F[K]>) | undefined;
};

/** A mistake in one key. */
export interface Mistake {
  key: string;
  /** `unused`: a valid value that has no effect */
  kind: 'unknown' | 'invalid' | 'unused';
  /** contains the key */
  message: string;
  hint?: string;
}

/** Escapes control, format and line-separator characters, so that labels cannot forge or hide output. */
export function visible(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}

/** Quotes a value for a message, on one line and with at most 60 characters. */
export function quote(text: string): string {
  const characters = [...text];
  return visible(JSON.stringify(characters.length > 60 ? `${characters.slice(0, 57).join('')}…` : text));
}

/** Builds a {@link Mistake}, without a hint if that is undefined. */
export function mistake(key: string, kind: Mistake['kind'], message: string, hint?: string): Mistake {
  return hint === undefined ? { key, kind, message } : { key, kind, message, hint };
}

/** The end of a key in a row that ends in `.*`. It stands in messages and reports. */
const NAME = /^[a-z0-9][a-z0-9_.-]{0,62}$/i;

/** Returns the row of a key: the key itself, or a row that ends in `.*`. */
function rowOf(fields: Fields, key: string): string | undefined {
  if (Object.hasOwn(fields, key) && !key.endsWith('*')) return key;
  return Object.keys(fields).find((row) => row.endsWith('.*') && isBelow(key, row.slice(0, -1)));
}

function isBelow(key: string, prefix: string): boolean {
  return key.startsWith(prefix) && NAME.test(key.slice(prefix.length));
}

/** Returns the mistake of an unknown key. `noun` is `label` or `setting`. */
export function unknownKey(noun: string, fields: Fields, key: string): Mistake {
  const rows = Object.keys(fields).filter((row) => !row.endsWith('*'));
  return mistake(key, 'unknown', `unknown ${noun} ${printable(key)}`, didYouMean(key, rows));
}

function printable(key: string): string {
  return /^[\x21-\x7e]{1,80}$/.test(key) ? key : quote(key);
}

/**
 * Parses texts by a table. Every given key becomes either a value or a mistake. A key with a mistake has its default,
 * or undefined.
 *
 * @param independent keys that need no other key here
 */
export function readFields<F extends Fields>(
  noun: string,
  fields: F,
  given: ReadonlyMap<string, string>,
  independent: readonly string[] = [],
): { values: Values<F>; mistakes: Mistake[] } {
  const values: Record<string, unknown> = {};
  const mistakes: Mistake[] = [];
  for (const [key, field] of Object.entries(fields)) {
    values[key] = field.default === undefined ? undefined : valueIn(field.parse(field.default));
  }
  for (const [key, text] of given) {
    const row = rowOf(fields, key);
    const present = independent.includes(key) ? undefined : given;
    const found = row === undefined ? unknownKey(noun, fields, key) : checkUse(fields[row]!, key, present);
    if (found !== undefined) {
      mistakes.push(found);
      continue;
    }
    const parsed = fields[row!]!.parse(text);
    if ('value' in parsed)
      values[row!] = row!.endsWith('.*') ? added(values[row!], key, row!, parsed.value) : parsed.value;
    else mistakes.push(badValue(key, text, fields[row!]!, parsed));
  }
  return { values: values as Values<F>, mistakes };
}

/** Adds the value of a key to those of its row, which ends in `.*`. */
function added(values: unknown, key: string, row: string, value: unknown): Record<string, unknown> {
  return { ...(typeof values === 'object' ? values : {}), [key.slice(row.length - 1)]: value };
}

function valueIn(parsed: Parsed<unknown>): unknown {
  return 'value' in parsed ? parsed.value : undefined;
}

/** `given`: all keys; undefined: the key needs no other one. */
function checkUse(field: Field, key: string, given: ReadonlyMap<string, string> | undefined): Mistake | undefined {
  if (given && field.needs !== undefined && !field.needs.some((parent) => isGiven(given, parent))) {
    const parents = field.needs.join(' or ');
    return mistake(key, 'unused', `${key} does nothing without ${parents}`, `add ${parents}, or remove it`);
  }
  return undefined;
}

function isGiven(given: ReadonlyMap<string, string>, row: string): boolean {
  return row.endsWith('.*') ? [...given.keys()].some((key) => isBelow(key, row.slice(0, -1))) : given.has(row);
}

function badValue(
  key: string,
  text: string,
  field: Field,
  parsed: { problem: string; hint?: string; hidden?: true },
): Mistake {
  const subject = field.secret || parsed.hidden ? key : `${key} ${quote(text)}`;
  return mistake(key, 'invalid', `${subject} ${parsed.problem}`, parsed.hint);
}
