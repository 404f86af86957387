import { expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { groupDamaged } from '../../../src/store/repository/damaged-groups.ts';

test('snapshots that cannot be used for the same reason share one group, and their number is in its message', () => {
  const otherKey = (id: string, key: string) => ({
    id,
    error: new LifeboatError('SIGNATURE_KEY', `the manifest of ${id} was signed with another key (${key})`),
  });
  const damaged = { id: 'c', error: new LifeboatError('OBJECT_DAMAGED', 'the manifest of c is not JSON') };
  const groups = groupDamaged([
    otherKey('a', 'k1'),
    otherKey('b', 'k1'),
    damaged,
    otherKey('d', 'k2'),
    otherKey('e', 'k1'),
  ]);
  expect(groups.map(({ id, error }) => `${id}: ${error.message}`)).toEqual([
    'a: the manifest of a was signed with another key (k1); the same applies to 2 more snapshots',
    'c: the manifest of c is not JSON',
    'd: the manifest of d was signed with another key (k2)',
  ]);
  expect(groupDamaged([])).toEqual([]);
});
