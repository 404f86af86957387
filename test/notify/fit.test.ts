import fc from 'fast-check';
import { expect, test } from 'vitest';
import { escapeMarkdown } from '../../src/notify/discord.ts';
import { characters, cut, fitBody } from '../../src/notify/fit.ts';
import { makeFailure, makeReport } from '../report/fixtures.ts';
import { runWords } from './notifier-of.ts';

test.each([
  ['short', 10, 'short'],
  ['exactly ten', 11, 'exactly ten'],
  ['longer than ten', 10, 'longer th…'],
  ['12345678😀', 9, '12345678…'],
  ['1234567😀x', 9, '1234567…'],
])('cut(%j, %d)', (text, max, expected) => {
  expect(cut(text, max)).toBe(expected);
});

test('a text that was cut fits, and has no half characters', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), fc.integer({ min: 1, max: 300 }), (text, max) => {
      for (const mark of [(part: string) => part, escapeMarkdown]) {
        const short = cut(text, max, mark);
        expect(short.length).toBeLessThanOrEqual(max);
        expect(short.isWellFormed()).toBe(true);
      }
    }),
  );
});

test('a long line of a body is never cut inside a character', () => {
  for (const pad of ['', 'x']) {
    const name = `${pad}${'😀'.repeat(2000)}`;
    const message = runWords(makeReport({ status: 'failed', results: [makeFailure({ name })] }));
    for (const line of fitBody(message, characters(4000))) expect(line.isWellFormed()).toBe(true);
  }
});
