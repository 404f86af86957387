import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { plural } from '../../src/report/format.ts';

const SRC = path.join(import.meta.dirname, '../../src');

/** Nouns that messages count. */
const NOUNS =
  `bytes characters columns commands connections constraints containers copies databases days directories entries
  errors extensions failures files functions hours indexes keys labels lines locks manifests minutes months objects packs parts paths
  pings places problems recipients restores roles rows runs schemas seconds sequences services sessions settings snapshots sources
  statements symlinks tables tombstones triggers uploads versions views volumes warnings weeks years`.split(/\s+/);

/** `${…} files`, `${…} other files`, `${…} files, …`: a number and a noun that stays the same for 1. */
const COUNTED = new RegExp(`\\$\\{((?:[^{}]|\\{[^{}]*\\})*)\\} ((?:[a-z-]+ ){0,2})(${NOUNS.join('|')})\\b`, 'g');
/** A condition that repeats the logic of `plural`. */
const BY_HAND = /\} \$\{[^}]*=== 1 \? '([a-z]+)' : '\1(?:s|es)'/g;

/** Not a number of things: a name before a verb or a noun, or a number that is never 1. */
const OTHERWISE = [
  /^[A-Z_]+$/, // a limit
  /^(min|max|limit)$/,
  /^mistakes\.length$/, // a single mistake is reported separately
  /^formatCount\(Math\.floor\(ms \/ DAY\)\)$/, // from two days on
  /^(from|group|names|source|container)$|(^|\.)name$|^plural\(|^(labelOf|quote)\(/,
];

const LAYERS_BELOW = /^(plan|docker|destinations)\//;

const sources = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, text: readFileSync(path.join(SRC, name), 'utf8') }));

/** Finds places that join a count and its noun without {@link plural}. */
function findCounts(text: string): string[] {
  return [...text.matchAll(COUNTED)]
    .filter(([, expression = '']) => !OTHERWISE.some((known) => known.test(expression)))
    .map(([found]) => found);
}

describe('a count and its noun', () => {
  test('are joined only by `plural`', () => {
    const wrong = sources.flatMap(({ name, text }) => findCounts(text).map((found) => `${name}: ${found}`));
    expect(wrong).toEqual([]);
    const byHand = sources
      .filter(({ name }) => !LAYERS_BELOW.test(name))
      .flatMap(({ name, text }) => [...text.matchAll(BY_HAND)].map(([found]) => `${name}: ${found}`));
    expect(byHand).toEqual([]);
  });

  test('are found where they are not joined by it', () => {
    expect(findCounts('`$'.concat('{count} files changed`'))).toHaveLength(1);
    expect(findCounts('`of $'.concat('{formatCount(rows.length)} new rows`'))).toHaveLength(1);
    expect(findCounts('`$'.concat("{plural(count, 'file')} changed`"))).toEqual([]);
  });

  test('agree', () => {
    expect([0, 1, 2, 1234].map((count) => plural(count, 'row'))).toEqual(['0 rows', '1 row', '2 rows', '1,234 rows']);
    expect([1, 2].map((count) => plural(count, 'copy', 'copies'))).toEqual(['1 copy', '2 copies']);
  });
});
