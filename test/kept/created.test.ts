import { expect, test } from 'vitest';
import { createdNotes, recordCreated } from '../../src/kept/created.ts';
import type { Rollback } from '../../src/run/state.ts';

const record = (id: string, more: Partial<Rollback> = {}): Rollback => ({
  ...{ id, at: '2026-11-20T03:00:00.000Z', source: 'web.media', snapshot: 's', inUse: 'restored' },
  ...more,
});

function createState(...records: Rollback[]) {
  let all = records;
  return {
    rollbacks: async () => all,
    saveRollbacks: async (now: readonly Rollback[]) => {
      all = [...now];
    },
  };
}

test('the records of a restore name what it created, and those of other restores stay', async () => {
  const state = createState(record('a', { group: 'g' }), record('b', { group: 'g' }), record('c'));
  await recordCreated(state, 'g', [{ target: 'db: shop', kept: 'shop__before_1' }, { target: 'web: media' }]);
  const created = ['web: media'];
  expect(await state.rollbacks()).toEqual([
    record('a', { group: 'g', created }),
    record('b', { group: 'g', created }),
    record('c'),
  ]);
  // Without a record, there is nothing to roll back.
  await recordCreated(state, 'unknown', [{ target: 'x' }]);
  expect((await state.rollbacks())[2]).toEqual(record('c'));
});

test('a rollback names each of them once, and a repeated rollback none', () => {
  const [a, b] = [record('a', { created: ['x', 'y'] }), record('b', { created: ['x', 'y'] })];
  expect(createdNotes([a, b]).map((note) => note.split(' ')[0])).toEqual(['x', 'y']);
  expect(createdNotes([{ ...a, inUse: 'before' }])).toEqual([]);
});
