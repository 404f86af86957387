import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
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
let hang: boolean;
let plans: number;
let clock: Date;
let next: Date;

beforeEach(() => {
  root = mkdtempSync(path.join(scratchBase, 'lifeboat-facts-'));
  state = openState(root);
  looks = 0;
  fail = false;
  hang = false;
  plans = 0;
  clock = new Date();
  next = new Date(0);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function open(limits?: { waitMs?: number; againMs?: number }): FactsCache {
  const deps = {
    ...{ project: 'shop', log: silentLog, state, limitedPlaces: [], journals: path.join(root, 'runs') },
    ...{ found: true, otherRepository: false, destination: { name: '/backups' } },
    settings: { timeZone: 'UTC', copies: [] },
    now: () => clock,
    plan: async () => {
      plans += 1;
      if (hang) await new Promise(() => undefined);
      if (fail) throw new Error('no engine');
      return { project: 'shop', sources: [], problems: [] };
    },
    nextRun: () => next,
    own: {
      look: async () => {
        looks += 1;
        return {};
      },
    },
    runsUnderWay: async () => [],
    listKept: async () => ({ restores: [], stray: [] }),
  } as unknown as HttpDeps;
  return new FactsCache(deps, new AbortController().signal, limits);
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
    const cache = open({ againMs: 0 });
    const before = await cache.get();
    fail = true;
    await state.saveLastRun(makeReport());
    expect(await cache.get()).toBe(before);
    expect(cache.problem).toBe('no engine (INTERNAL)');
    fail = false;
    await cache.get();
    expect(cache.problem).toBeUndefined();
  });

  test('a look that hangs holds up no request for long, and the page says so', async () => {
    const cache = open({ waitMs: 3000 });
    const before = await cache.get();
    hang = true;
    await state.saveLastRun(makeReport());
    expect(await cache.get()).toBe(before);
    expect(cache.problem).toBe('a look at the engine and the destination takes long');
    const start = performance.now();
    await cache.get();
    // Far below the wait of the first request, because a busy machine may stall.
    expect(performance.now() - start).toBeLessThan(2000);
  });

  test('a look that failed is not repeated for each request', async () => {
    fail = true;
    const cache = open();
    for (let i = 0; i < 20; i++) await expect(cache.get()).rejects.toThrow('no engine');
    expect(plans).toBe(1);
  });

  test('are collected again once the next run is due, because it is no longer the next one', async () => {
    next = new Date(Date.now() + 60_000);
    const cache = open();
    await cache.get();
    await cache.get();
    expect(plans).toBe(1);
    clock = new Date(Date.now() + 61_000);
    await cache.get();
    expect(plans).toBe(2);
  });

  test('are never old: a visitor after hours waits for new ones', async () => {
    const cache = open();
    const before = await cache.get();
    const real = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => real() + 3_600_000);
    try {
      expect(await cache.get()).not.toBe(before);
    } finally {
      vi.restoreAllMocks();
    }
  });

  test('that never were reject', async () => {
    fail = true;
    await expect(open().get()).rejects.toThrow('no engine');
  });
});
