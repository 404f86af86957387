import type { Parsed } from './fields.ts';

/** The price of a place's storage, and the size and price from which on Lifeboat reports them. */
export interface PlaceLimits {
  /** price of 1 GB (10⁹ bytes) a month, in any currency */
  readonly pricePerGb?: number;
  /** a warning when the place holds more, bytes */
  readonly warnSize?: number;
  /** a warning when the place costs more a month, in the currency of the price */
  readonly warnCost?: number;
}

const GB = 1e9;

const NUMBER = /^\d{1,12}(?:\.\d{1,9})?$/;
const SIZE = /^(\d{1,9}(?:\.\d{1,3})?)([KMGTP])(i?)B$/i;
const UNITS = 'KMGTP';

/** The options, each with its parser. A parser returns undefined for a value that is not valid. */
const OPTIONS = {
  'price-per-gb': { name: 'pricePerGb', parse: parsePrice, form: '?price-per-gb=0.023' },
  'warn-size': { name: 'warnSize', parse: parseSize, form: '?warn-size=500GB' },
  'warn-cost': { name: 'warnCost', parse: parsePrice, form: '?price-per-gb=0.023&warn-cost=20' },
} as const;

/**
 * Takes the limits out of the options of a location: `s3://bucket/prefix?region=…&price-per-gb=0.023&warn-cost=20`.
 *
 * @param text the location as a user writes it
 * @returns the location without these options, and the limits; absent if there are none
 */
export function takeLimits(text: string): Parsed<{ location: string; limits?: PlaceLimits }> {
  const [, place = '', query = ''] = /^([^?]*)\??(.*)$/s.exec(text) ?? [];
  const others: string[] = [];
  const limits: Partial<Record<keyof PlaceLimits, number>> = {};
  for (const option of query.split('&')) {
    const [key = '', given = ''] = option.split(/=(.*)/s);
    if (!isOption(key)) {
      others.push(option);
      continue;
    }
    const { name, parse, form } = OPTIONS[key];
    if (limits[name] !== undefined) return { problem: `has ${key} twice`, hidden: true };
    const value = parse(given);
    if (value === undefined) return { problem: `has a wrong ${key}`, hint: `write it like ${form}`, hidden: true };
    limits[name] = value;
  }
  if (limits.warnCost !== undefined && limits.pricePerGb === undefined) {
    return { problem: 'has warn-cost without price-per-gb', hint: `write ${OPTIONS['warn-cost'].form}`, hidden: true };
  }
  if (Object.keys(limits).length === 0) return { value: { location: text } };
  const rest = others.filter((option) => option !== '').join('&');
  return { value: { location: rest === '' ? place : `${place}?${rest}`, limits } };
}

/** Returns what a number of bytes costs a month, in the currency of the price. */
export function costOf(bytes: number, { pricePerGb }: PlaceLimits): number | undefined {
  return pricePerGb === undefined ? undefined : (bytes / GB) * pricePerGb;
}

function isOption(key: string): key is keyof typeof OPTIONS {
  return Object.hasOwn(OPTIONS, key);
}

function parsePrice(text: string): number | undefined {
  return NUMBER.test(text) ? Number(text) : undefined;
}

/** Parses `500GB` (10⁹ bytes each) or `500GiB` (2³⁰ bytes each). */
function parseSize(text: string): number | undefined {
  const [, number, unit, binary] = SIZE.exec(text) ?? [];
  if (number === undefined || unit === undefined) return undefined;
  const power = UNITS.indexOf(unit.toUpperCase()) + 1;
  return Math.round(Number(number) * (binary === '' ? 1000 : 1024) ** power);
}
