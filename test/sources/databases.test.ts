import { expect, test } from 'vitest';
import type { PostgresSource } from '../../src/plan/model.ts';
import { type Aside, chooseDatabases, type DatabaseListing } from '../../src/sources/postgres/databases.ts';

const open = (name: string): DatabaseListing => ({ name, size: 1 });
const closed: DatabaseListing = { name: 'archive', size: 0, closed: 'it allows no connections' };
const planned = (over: Partial<PostgresSource> = {}) =>
  ({ containerName: 'shop-db-1', excludeDatabases: [], ...over }) as unknown as PostgresSource;
const choose = (all: DatabaseListing[], over?: Partial<PostgresSource>, kept: Aside[] = []) => {
  const { databases, warnings } = chooseDatabases(planned(over), all, kept);
  return [databases.map(({ name }) => name), warnings];
};

test('a database that lets nobody connect is told, unless it is excluded', () => {
  expect(choose([closed, open('shop')])).toEqual([
    ['shop'],
    [
      'database archive is not backed up: it allows no connections; exclude it (lifeboat.postgres.exclude-databases) if that is right',
    ],
  ]);
  expect(choose([closed, open('shop')], { excludeDatabases: ['archive'] })).toEqual([['shop'], []]);
  expect(choose([closed, open('shop')], { databases: ['shop'] })).toEqual([['shop'], []]);
});

test('one that is asked for by name, and cannot be connected to, is an error that says so', () => {
  expect(() => choose([closed, open('shop')], { databases: ['shop', 'archive'] })).toThrow(
    expect.objectContaining({
      code: 'PG_DATABASE_UNKNOWN',
      message: 'shop-db-1 has a database archive, but it allows no connections',
    }),
  );
  expect(() => choose([closed])).toThrow('shop-db-1 has no database left to back up');
  expect(() => choose([open('shop')], { databases: ['shop', 'blog'] })).toThrow('shop-db-1 has no database blog');
});

test('what a restore keeps for its rollback is left out, which is told where no snapshot has it', () => {
  const all = [open('shop'), open('shop__before_4f1c9a')];
  const aside = (stored: boolean) => [
    { name: 'shop__before_4f1c9a', stored },
    { name: 'dropped', stored: false },
  ];
  expect(choose(all, {}, aside(true))).toEqual([['shop'], []]);
  expect(choose(all, {}, aside(false))).toEqual([
    ['shop'],
    [
      expect.stringMatching(
        /^database shop__before_4f1c9a, which a restore keeps aside, is not backed up, and no snapshot/,
      ),
    ],
  ]);
  const named = { databases: ['shop__before_4f1c9a'] };
  expect(choose(all, named, aside(false))).toEqual([['shop__before_4f1c9a'], []]);
});
