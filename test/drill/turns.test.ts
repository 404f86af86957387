import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { inTurn, overdueTurns, saveTurn } from '../../src/drill/turns.ts';

let state: string;
beforeEach(async () => {
  state = await mkdtemp(path.join(tmpdir(), 'turns-'));
});
afterEach(() => rm(state, { recursive: true }));

const ALL = ['a', 'b', 'c'];
const day = (n: number) => new Date(Date.UTC(2026, 10, n));
const order = async () =>
  (
    await inTurn(
      state,
      ALL.map((source) => ({ source })),
    )
  )
    .map(({ source }) => source)
    .join('');
/** A drill on a day: each source is done, or `!` is interrupted, `-` is missed, and `x` kills the agent. */
async function drill(n: number, outcomes: string): Promise<void> {
  for (const one of outcomes.match(/.[!x-]?/g) ?? []) {
    const [source = '', how] = one;
    if (how === '-') {
      await saveTurn(state, source, { what: 'missed', now: day(n) });
      continue;
    }
    await saveTurn(state, source, { what: 'begun', now: day(n) });
    if (how !== 'x') await saveTurn(state, source, { what: how === '!' ? 'interrupted' : 'done', now: day(n) });
  }
}

test('a drill begins with the source that waited longest', async () => {
  expect(await order()).toBe('abc');
  await drill(1, 'abc');
  await drill(2, 'ab!');
  expect(await order()).toBe('bca');
  await drill(3, 'bc!');
  expect(await order()).toBe('cab');
});

test('a source that killed the agent comes last until its drill has ended', async () => {
  await drill(1, 'abcx');
  expect(await order()).toBe('abc');
  await drill(2, 'abcx');
  expect(await order()).toBe('abc');
  await drill(3, 'c');
  expect(await order()).toBe('abc');
  await drill(4, 'ab');
  expect(await order()).toBe('cab');
});

test('a source that a drill did not come to keeps its place', async () => {
  await drill(1, 'ab-c-');
  expect(await order()).toBe('bca');
  await drill(2, 'bc!a-');
  expect(await order()).toBe('cab');
  await drill(3, 'bcx');
  await drill(4, 'a!b-c-');
  expect(await order()).toBe('abc');
});

test('a source is overdue if its drills have ended early for long', async () => {
  await drill(1, 'abc');
  await drill(3, 'a!b!c');
  await drill(10, 'a!b');
  expect(await overdueTurns(state, [...ALL, 'new'], day(5))).toEqual(['a']);
  await drill(11, 'b-');
  await drill(12, 'bx');
  await drill(20, 'a');
  expect(await overdueTurns(state, ALL, day(12))).toEqual(['b']);
});

test('a source without a drill for long is not overdue when the next one ends early', async () => {
  await drill(1, 'abc');
  await drill(20, 'a!');
  expect(await overdueTurns(state, ALL, day(10))).toEqual([]);
});

test('a source that died with the agent again and again is overdue', async () => {
  await drill(1, 'abc');
  for (const n of [2, 9, 16]) await drill(n, 'bx');
  expect(await overdueTurns(state, ALL, day(9))).toEqual(['b']);
});
