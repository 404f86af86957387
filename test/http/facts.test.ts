import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { HttpDeps } from '../../src/http/deps.ts';
import { FactsCache } from '../../src/http/facts.ts';
import { openState, type State } from '../../src/run/state.ts';
import { makeReport } from '../report/fixtures.ts';
import { scratchBase } from '../store/helpers.ts';

let root: string;
let state: State;
let looks: number;
let fail: boolean;

beforeEach(() => {
  root = mkdtempSync(path.join(scratchBase, 'lifeboat-facts-'));
  state = openState(root);
  looks = 0;
  fail = false;
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function open(): FactsCache {
  const deps = {
    ...{ project: 'shop', log: silentLog, state, limitedPlaces: [], journals: path.join(root, 'runs') },
    ...{ found: true, otherRepository: false, destination: { name: '/backups' } },
    settings: { timeZone: 'UTC', copies: [] },
    plan: async () => {
      if (fail) throw new Error('no engine');
      return { project: 'shop', sources: [], problems: [] };
    },
    nextRun: () => new Date(0),
    own: {
      look: async () => {
        looks += 1;
        return {};
      },
    },
    runsUnderWay: async () => [],
    listKept: async () => ({ restores: [], stray: [] }),
  } as unknown as HttpDeps;
  return new FactsCache(deps, new AbortController().signal);
}

describe('facts', () => {
  test('are collected once for many readers, and again after a run', async () => {
    const cache = open();
    await Promise.all(Array.from({ length: 20 }, () => cache.get()));
    const once = looks;
    for (let i = 0; i < 20; i++) await cache.get();
    expect(looks).toBe(once);
    await state.saveLastRun(makeReport());
    const { overview, runs } = await cache.get();
    expect(looks).toBe(2 * once);
    expect(overview.last?.id).toBe('20261120T030000Z-4f1c9a');
    expect(runs.map(({ id }) => id)).toEqual(['20261120T030000Z-4f1c9a']);
  });

  test('stay when they cannot be collected again, and say why', async () => {
    const cache = open();
    const before = await cache.get();
    fail = true;
    await state.saveLastRun(makeReport());
    expect(await cache.get()).toBe(before);
    expect(cache.problem).toBe('no engine (INTERNAL)');
    fail = false;
    await cache.get();
    expect(cache.problem).toBeUndefined();
  });

  test('that never were reject', async () => {
    fail = true;
    await expect(open().get()).rejects.toThrow('no engine');
  });
});
