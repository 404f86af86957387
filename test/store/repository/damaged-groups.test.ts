import { expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { groupDamaged } from '../../../src/store/repository/damaged-groups.ts';

test('snapshots that cannot be used for the same reason share one group, and their number is in its message', () => {
  const otherKey = (id: string, key: string) => ({
    id,
    error: new LifeboatError('SIGNATURE_KEY', `the manifest of ${id} was signed with another key (${key})`),
  });
  const damaged = { id: '20c', error: new LifeboatError('OBJECT_DAMAGED', 'the manifest of 20c is not JSON') };
  const groups = groupDamaged([
    otherKey('20a', 'k1'),
    otherKey('20b', 'k1'),
    damaged,
    otherKey('20d', 'k2'),
    otherKey('20e', 'k1'),
  ]);
  expect(groups.map(({ id, error }) => `${id}: ${error.message}`)).toEqual([
    '20a: the manifest of 20a was signed with another key (k1); the same applies to 2 more snapshots',
    '20c: the manifest of 20c is not JSON',
    '20d: the manifest of 20d was signed with another key (k2)',
  ]);
  expect(groupDamaged([])).toEqual([]);
});
