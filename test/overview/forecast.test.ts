import { describe, expect, test } from 'vitest';
import { foreseeRetention } from '../../src/overview/forecast.ts';
import type { KeepPolicy } from '../../src/plan/model.ts';
import { KEEP, makeFacts, NOW } from '../http/fixtures.ts';

const state = { accepted: async () => ({}) };

async function goes(keep: KeepPolicy = KEEP, change: (facts: ReturnType<typeof makeFacts>) => void = () => undefined) {
  const facts = makeFacts();
  for (const source of facts.overview.plan.sources) source.keep = keep;
  change(facts);
  const all = await foreseeRetention(facts.overview, { keep, pins: facts.pins, state });
  return Object.fromEntries(
    all.map((one) => [one.id.slice(0, 8), one.keep ? (one.goes?.slice(0, 10) ?? 'stays') : 'now']),
  );
}

describe('the forecast', () => {
  test('a daily snapshot goes when seven newer days have one', async () => {
    const found = await goes();
    expect(found['20261127']).toBe('2026-12-04');
    expect(found['20261126']).toBe('2026-12-03');
    // The last of its week stays for four weeks, the last of its month for a year, and a pinned one until it is unpinned.
    expect(found['20261122']).toMatch(/^2026-12-|^2027-01-/);
    expect(found['20261001']).toMatch(/^2027-(09|10)-/);
    expect(found['20261108']).toBe('stays');
  });

  test('a snapshot that nothing needs goes now', async () => {
    const found = await goes({ daily: 2 });
    expect(found['20261126']).toBe('now');
    expect(found['20261128']).not.toBe('now');
  });

  test('while a source fails, none of its snapshots goes', async () => {
    const found = await goes(KEEP, ({ overview }) => {
      overview.sources = overview.sources.map((source) => ({
        ...{ ...source, attention: 'failed' as const },
        last: { run: 'x', at: NOW.toISOString(), status: 'failed' as const },
      }));
    });
    expect(new Set(Object.values(found))).toEqual(new Set(['stays']));
  });

  test('is quick for hourly backups of a year', async () => {
    const before = process.cpuUsage();
    await goes({ within: 48, daily: 30, weekly: 8, monthly: 12 }, ({ overview }) => {
      for (const source of overview.plan.sources) source.schedule = '0 * * * *';
    });
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000).toBeLessThan(5000);
  });

  test('lets other work of the daemon go on', async () => {
    let turns = 0;
    const timer = setInterval(() => (turns += 1), 1);
    await goes({ within: 48, daily: 30, weekly: 8, monthly: 12 }, ({ overview }) => {
      for (const source of overview.plan.sources) source.schedule = '0 * * * *';
    });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(20);
  });
});
