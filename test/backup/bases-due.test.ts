import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeBaseIf } from '../../src/app/receivers.ts';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Plan } from '../../src/plan/model.ts';
import type { RunReport } from '../../src/report/events.ts';
import type { State } from '../../src/run/state.ts';
import { RunBench } from '../run/run-bench.ts';

/** Which runs make base backups. */

let bench: RunBench;
beforeEach(async () => {
  bench = new RunBench();
  await bench.open();
});
afterEach(() => bench.remove());

const WEEKLY = '30 4 * * 0';
const base = { name: 'db.postgres.base', kind: 'base', schedule: WEEKLY, keep: { within: 168 } };

/** Returns the sources that a run announces. The clock says Friday, 2026-11-20 03:00 UTC. */
async function sourcesOf(
  last: { at: string; status: 'ok' | 'failed' } | undefined,
  { only, over = {} }: { only?: () => boolean; over?: Partial<State> } = {},
) {
  const plan = { ...bench.plan, sources: [...bench.plan.sources, base] } as unknown as Plan;
  const state = { ...bench.state('a'), results: async () => (last ? { [base.name]: { run: 'r', ...last } } : {}) };
  Object.assign(state, { chain: async () => [{ id: 'r', sequence: 1, hash: 'h' }], damaged: async () => [], ...over });
  const request = only ? { only } : {};
  const { sources } = await bench.run('a', { plan: async () => plan, state, trigger: 'manual', request });
  return sources;
}

test.each([
  ['none is known', undefined, true],
  ['the last one failed', { at: '2026-11-19T12:00:00Z', status: 'failed' as const }, true],
  ['its weekly time has passed since', { at: '2026-11-14T12:00:00Z', status: 'ok' as const }, true],
  ['there is one of this week', { at: '2026-11-15T04:40:00Z', status: 'ok' as const }, false],
])('whether a manual run of all sources makes a base backup: %s', async (_, last, isMade) => {
  expect(await sourcesOf(last)).toEqual(isMade ? ['config', base.name] : ['config']);
});

test.each([
  ['the destination no longer has it', { chain: async () => [] }],
  ['another destination is in use', { chain: async () => undefined }],
  ['a check has found damage', { damaged: async () => ['shop/packs/x'] }],
])('a manual run of all sources makes a base backup in spite of that of this week: %s', async (_, over) => {
  const last = { at: '2026-11-15T04:40:00Z', status: 'ok' as const };
  expect(await sourcesOf(last, { over })).toEqual(['config', base.name]);
});

test('a manual run that names a base backup makes it in any case', async () => {
  expect(await sourcesOf({ at: '2026-11-20T02:59:00Z', status: 'ok' }, { only: () => true })).toEqual([
    'config',
    base.name,
  ]);
});

test('a run that is not confirmed under the lock does nothing', async () => {
  const confirm = () => Promise.reject(new Error('not needed'));
  await expect(bench.run('a', { request: { confirm } })).rejects.toThrow('not needed');
  expect(bench.done).toEqual(['unlocked']);
  expect(await bench.ids()).toEqual([]);
});

test('the daemon looks again under the lock, and makes no base backup that a run has made meanwhile', async () => {
  const made: string[] = [];
  const make = async (confirm: () => Promise<void>) => {
    await confirm();
    made.push('base');
    return {} as RunReport;
  };
  expect(await makeBaseIf(async () => false, make)).toBe(true);
  expect(made).toEqual([]);
  expect(await makeBaseIf(async () => true, make)).toBe(true);
  expect(made).toEqual(['base']);
  const locked = () => Promise.reject(new LifeboatError('LOCKED', 'another run is under way'));
  expect(await makeBaseIf(async () => true, locked)).toBe(false);
  await expect(
    makeBaseIf(
      async () => true,
      () => Promise.reject(new Error('no')),
    ),
  ).rejects.toThrow('no');
});
