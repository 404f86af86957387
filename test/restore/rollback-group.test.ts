import { expect, test } from 'vitest';
import { groupOf } from '../../src/kept/group.ts';
import type { RollbackRequest } from '../../src/restore/rollback.ts';
import type { Rollback } from '../../src/run/state.ts';

const record = (id: string, inUse: Rollback['inUse'], group?: string) =>
  ({ id, inUse, source: id, ...(group === undefined ? {} : { group }) }) as Rollback;
const request = (id?: string, source?: string) => ({ id, source }) as RollbackRequest;

test('without an id, a rollback means the newest restore: all of a group, or a single source', () => {
  const group = [record('a', 'restored', 'g'), record('b', 'restored', 'g')];
  expect(groupOf(group, request())).toBe('g');
  expect(groupOf([...group, record('c', 'restored')], request())).toBeUndefined();
  // After a rollback of one source of the group, the same command reverses that.
  expect(groupOf([record('a', 'restored', 'g'), record('b', 'before', 'g')], request())).toBeUndefined();
  expect(groupOf([], request())).toBeUndefined();
});

test('an id means a group if it is the id of the group and of nothing else', () => {
  const all = [record('a', 'restored', 'g1'), record('b', 'before', 'g1'), record('c', 'restored', 'g2')];
  expect(groupOf(all, request('g1'))).toBe('g1');
  expect(groupOf(all, request('g'))).toBeUndefined();
  expect(groupOf(all, request('a'))).toBeUndefined();
  expect(groupOf(all, request('g1', 'a'))).toBeUndefined();
});
