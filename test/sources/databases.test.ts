import { expect, test } from 'vitest';
import type { PostgresSource } from '../../src/plan/model.ts';
import { chooseDatabases, type DatabaseListing } from '../../src/sources/postgres/databases.ts';

const open = (name: string): DatabaseListing => ({ name, size: 1 });
const closed: DatabaseListing = { name: 'archive', size: 0, closed: 'it allows no connections' };
const planned = (over: Partial<PostgresSource> = {}) =>
  ({ containerName: 'shop-db-1', excludeDatabases: [], ...over }) as unknown as PostgresSource;
const choose = (all: DatabaseListing[], over?: Partial<PostgresSource>) => {
  const { databases, warnings } = chooseDatabases(planned(over), all);
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
