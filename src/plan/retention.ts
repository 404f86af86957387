import type { KeepPolicy } from './model.ts';
import type { Parsed } from './values/fields.ts';

type CountKey = 'daily' | 'weekly' | 'monthly' | 'yearly';

const UNITS: Readonly<Record<string, CountKey>> = { d: 'daily', w: 'weekly', m: 'monthly', y: 'yearly' };
const HOURS: Readonly<Record<string, number>> = { h: 1, d: 24, w: 168 };
const MAX_COUNT = 100_000;
const HINT = 'write for example 7d 4w 12m, last 5, or within 48h';

/**
 * Parses a keep policy: counts with a unit (`7d 4w 12m 3y`), `last 5`, `within 48h` (also `2d`, `1w`), in any order,
 * each at most once. A count of zero is ignored. {@link formatKeep} is the inverse.
 */
export function parseKeep(text: string): Parsed<KeepPolicy> {
  const words = text.trim().toLowerCase().split(/\s+/);
  const policy: KeepPolicy = {};
  const seen = new Set<keyof KeepPolicy>();
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const named = word === 'last' || word === 'within';
    const rule = named ? namedRule(word, words[++i] ?? '') : countRule(word);
    if ('problem' in rule) return rule;
    const { key, count } = rule.value;
    if (seen.has(key)) return { problem: `has ${key} more than once`, hint: HINT };
    if (count > MAX_COUNT) return { problem: `has a count above ${MAX_COUNT}`, hint: HINT };
    seen.add(key);
    if (count > 0) policy[key] = count;
  }
  if (Object.keys(policy).length === 0) return { problem: 'keeps nothing', hint: HINT };
  return { value: policy };
}

type Rule = Parsed<{ key: keyof KeepPolicy; count: number }>;

function countRule(word: string): Rule {
  if (word === '') return { problem: 'is empty', hint: HINT };
  if (/^\d+$/.test(word)) {
    return { problem: 'has a number without a unit', hint: `write ${word}d for days, or last ${word}` };
  }
  if (/^\d+h$/.test(word)) return { problem: 'has hours without within', hint: `write within ${word}` };
  const [, count, unit] = /^(\d+)([dwmy])$/.exec(word) ?? [];
  if (count === undefined) return { problem: 'is not a keep policy', hint: HINT };
  return { value: { key: UNITS[unit!]!, count: Number(count) } };
}

function namedRule(name: 'last' | 'within', word: string): Rule {
  if (name === 'last') {
    if (!/^\d+$/.test(word)) return { problem: 'needs a number after last', hint: HINT };
    return { value: { key: 'last', count: Number(word) } };
  }
  const [, count, unit] = /^(\d+)([hdw])$/.exec(word) ?? [];
  if (count === undefined) return { problem: 'needs hours, days or weeks after within', hint: HINT };
  return { value: { key: 'within', count: Number(count) * HOURS[unit!]! } };
}

/** Writes a policy as a user would, in a fixed order. {@link parseKeep} is the inverse. */
export function formatKeep(policy: KeepPolicy): string {
  const parts: string[] = [];
  if (policy.last) parts.push(`last ${policy.last}`);
  if (policy.within) parts.push(`within ${hours(policy.within)}`);
  for (const [unit, key] of Object.entries(UNITS)) if (policy[key]) parts.push(`${policy[key]}${unit}`);
  return parts.join(' ');
}

/** `168` → `7d`; `36` → `36h`. */
function hours(count: number): string {
  return count % 24 === 0 ? `${count / 24}d` : `${count}h`;
}
