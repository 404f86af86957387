import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type Bench, createBench } from '../../helpers.ts';
import { Killed, killed } from '../killed.ts';
import { createVolumeBench, SECOND, type VolumeBench } from '../volume-bench.ts';

// An exchange that is killed does not take itself back.
vi.mock(import('../../../../src/store/exchange/undo-exchange.ts'), async (original) =>
  (await import('../killed.ts')).withoutRevert(original),
);

/** Some entries of a data directory; `zeta` sorts after `global`. */
const NAMES = ['PG_VERSION', 'base', 'global', 'pg_wal', 'postgresql.conf', 'zeta'];

let bench: Bench;
let volume: string;
let agent: VolumeBench;
beforeEach(() => {
  bench = createBench();
  volume = join(bench.spool, '..', 'volume');
  for (const [root, state] of [
    [volume, 'old'],
    [bench.tree, 'new'],
  ] as const) {
    mkdirSync(root, { recursive: true });
    for (const name of NAMES) {
      mkdirSync(join(root, name));
      writeFileSync(join(root, name, 'state'), state);
    }
  }
  agent = createVolumeBench(bench, volume);
});
afterEach(() => bench.remove());

/** Returns what each name holds: `old`, `new`, or nothing. */
function states(): Record<string, string | undefined> {
  const stateOf = (name: string) => {
    const file = join(volume, name, 'state');
    return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
  };
  return Object.fromEntries(NAMES.map((name) => [name, stateOf(name)]));
}

/** Expects that a server that starts now either finds one state or does not start. */
function expectNoMixture(seen: Set<string>): void {
  const { global, ...others } = states();
  if (global !== undefined) expect(new Set(Object.values(others))).toEqual(new Set([global]));
  seen.add(global ?? 'none');
}

/** A callback that looks at every step, and is killed at one. */
function watchUntil(step: number, seen: Set<string>): () => void {
  let left = step;
  return () => {
    expectNoMixture(seen);
    if (left-- === 0) throw new Killed();
  };
}

describe('a data directory of Postgres', () => {
  test('never holds two states in which a server could start, killed at any step, in both directions', async () => {
    const seen = new Set<string>();
    const stored = await bench.store();
    const outcomes: string[] = [];
    const clean = join(volume, '..', 'clean');
    cpSync(volume, clean, { recursive: true });
    /** Kills an exchange at a step, and its recovery at every one. Returns whether it lived long enough to be killed. */
    const killAt = async (step: number, isBack: boolean) => {
      rmSync(volume, { recursive: true });
      cpSync(clean, volume, { recursive: true });
      agent = createVolumeBench(bench, volume);
      await agent.build(stored);
      if (isBack) await agent.swap({ whole: true });
      const heard = watchUntil(step, seen);
      const isKilled = await killed(
        isBack ? agent.back(SECOND, undefined, { heard }) : agent.swap({ whole: true, heard }),
      );
      expectNoMixture(seen);
      const id = isBack ? SECOND : undefined;
      for (let i = 0; isKilled && (await killed(agent.undo(id, watchUntil(i, seen)))); i++) expectNoMixture(seen);
      outcomes.push(`${isBack} ${[...new Set(Object.values(states()))].join()}`);
      return isKilled;
    };
    for (const isBack of [false, true]) for (let step = 0; await killAt(step, isBack); ) step++;
    expect(new Set(outcomes)).toEqual(new Set(['false old', 'false new', 'true new', 'true old']));
    expect(outcomes.length).toBeGreaterThan(20);
    expect(seen).toEqual(new Set(['old', 'none', 'new']));
  });
});
