import { expect, test } from 'vitest';
import { refuseOutOfTurn } from '../../src/kept/order.ts';
import type { Rollback } from '../../src/run/state.ts';

const kept = (id: string, inUse: Rollback['inUse'], more: Partial<Rollback>): Rollback => ({
  ...{ id, inUse, at: '2026-11-20T03:00:00Z', source: 'db.postgres', snapshot: 's' },
  ...more,
});
const app = { databases: [{ name: 'app', before: 'app__before_1' }] };
const shop = { databases: [{ name: 'shop', before: 'shop__before_1' }] };

test('a restore is not rolled back while a later one of the same data is in use', () => {
  const first = kept('1', 'restored', app);
  const refused = expect.objectContaining({ code: 'USAGE', hint: expect.stringContaining('lifeboat rollback 2') });
  expect(() => refuseOutOfTurn(first, [first, kept('2', 'restored', app)])).toThrow(refused);
  const volume = kept('1', 'restored', { volume: { area: '1' } });
  expect(() => refuseOutOfTurn(volume, [kept('2', 'restored', { volume: { area: '2' } })])).toThrow(refused);
});

test('a recovery of the whole server comes before and after restores of its databases', () => {
  const server = kept('1', 'restored', { volume: { area: '1' } });
  const refused = expect.objectContaining({ code: 'USAGE', hint: expect.stringContaining('lifeboat rollback 2') });
  expect(() => refuseOutOfTurn(server, [server, kept('2', 'restored', app)])).toThrow(refused);
  const database = kept('1', 'restored', app);
  expect(() => refuseOutOfTurn(database, [database, kept('2', 'restored', { volume: { area: '2' } })])).toThrow(
    refused,
  );
});

test.each([
  ['the later one is rolled back', kept('2', 'before', app)],
  ['the later one is of another database', kept('2', 'restored', shop)],
  ['the later one is of another server', kept('2', 'restored', { ...app, source: 'other.postgres' })],
  ['the other one came before', kept('0', 'restored', app)],
])('it is rolled back if %s', (_, other) => {
  const first = kept('1', 'restored', app);
  expect(() => refuseOutOfTurn(first, [other, first])).not.toThrow();
});

test('a rolled-back restore comes back only after the earlier ones', () => {
  const second = kept('2', 'before', app);
  expect(() => refuseOutOfTurn(second, [kept('1', 'before', app), second])).toThrow(
    expect.objectContaining({ code: 'USAGE', hint: expect.stringContaining('lifeboat rollback 1') }),
  );
  expect(() => refuseOutOfTurn(second, [kept('1', 'restored', app), second])).not.toThrow();
});

test('a rolled-back restore does not come back under a later one that is in use, and the hint has the order', () => {
  const inVolume = (id: string, inUse: Rollback['inUse']) => kept(id, inUse, { volume: { area: id } });
  const [first, second, third] = [inVolume('1', 'before'), inVolume('2', 'restored'), inVolume('3', 'restored')];
  expect(() => refuseOutOfTurn(first, [first, second])).toThrow(
    expect.objectContaining({ code: 'USAGE', hint: 'Change that first: lifeboat rollback 2. Nothing was changed.' }),
  );
  expect(() => refuseOutOfTurn(first, [first, second, third])).toThrow(
    expect.objectContaining({ hint: expect.stringContaining('lifeboat rollback 3, then lifeboat rollback 2.') }),
  );
  const back = inVolume('2', 'before');
  expect(() => refuseOutOfTurn(back, [first, back, third])).toThrow(
    expect.objectContaining({ hint: expect.stringContaining('lifeboat rollback 3, then lifeboat rollback 1.') }),
  );
  // The same for databases.
  expect(() => refuseOutOfTurn(kept('1', 'before', app), [kept('2', 'restored', app)])).toThrow('in use');
  expect(() => refuseOutOfTurn(first, [first, back])).not.toThrow();
});
