import { expect, test } from 'vitest';
import type { LifeboatError } from '../../../../src/base/errors.ts';
import type { PostgresSource } from '../../../../src/plan/model.ts';
import { type Aside, chooseDatabases, type DatabaseListing } from '../../../../src/sources/postgres/facts/databases.ts';

const open = (name: string): DatabaseListing => ({ name, size: 1 });
const closed: DatabaseListing = { name: 'archive', size: 0, closed: 'it allows no connections' };
const planned = (over: Partial<PostgresSource> = {}) =>
  ({ containerName: 'shop-db-1', excludeDatabases: [], ...over }) as unknown as PostgresSource;
const choose = (all: DatabaseListing[], over?: Partial<PostgresSource>, kept: Aside[] = []) => {
  const { databases, warnings } = chooseDatabases(planned(over), all, kept);
  return [databases.map(({ name }) => name), warnings];
};

test('a database that allows no connections is reported, unless it is excluded', () => {
  expect(choose([closed, open('shop')])).toEqual([
    ['shop'],
    [
      'database archive is not backed up: it allows no connections; exclude it (lifeboat.postgres.exclude-databases) if that is intended',
    ],
  ]);
  expect(chooseDatabases(planned(), [closed, open('shop')], []).closed).toMatchObject([{ name: 'archive' }]);
  expect(chooseDatabases(planned({ databases: ['shop'] }), [closed, open('shop')], []).closed).toEqual([]);
  expect(choose([closed, open('shop')], { excludeDatabases: ['archive'] })).toEqual([['shop'], []]);
  expect(choose([closed, open('shop')], { databases: ['shop'] })).toEqual([['shop'], []]);
});

test('a database that is named, but closed or not found, is missing, and the others are not', () => {
  const all = [closed, open('shop'), open('caf\ufffd')];
  const named = planned({ databases: ['shop', 'archive', 'blog', 'caf\ufffd'] });
  const { databases, missing } = chooseDatabases(named, all, []);
  expect(databases.map(({ name }) => name)).toEqual(['shop']);
  expect(missing.map(({ name, error }) => [name, (error as LifeboatError).code, (error as Error).message])).toEqual([
    ['blog', 'PG_DATABASE_UNKNOWN', 'shop-db-1 has no database blog'],
    ['archive', 'PG_DATABASE_UNKNOWN', 'shop-db-1 has a database archive, but it allows no connections'],
    ['caf\ufffd', 'PG_NAME_UNSUPPORTED', 'shop-db-1 has a database whose name is not UTF-8'],
  ]);
});

test('a server without a database to dump is an error, with the reason if there is one', () => {
  expect(() => choose([closed])).toThrow('shop-db-1 has no database left to back up');
  expect(() => choose([closed, open('shop')], { databases: ['archive'] })).toThrow('but it allows no connections');
  expect(() => choose([open('shop')], { databases: ['blog'] })).toThrow('shop-db-1 has no database blog');
});

test('an invalid database can only be dropped', () => {
  const invalid: DatabaseListing = {
    name: 'half',
    size: 0,
    closed: 'a DROP DATABASE of it was interrupted',
    invalid: true,
  };
  const hints = [
    chooseDatabases(planned(), [invalid, open('shop')], []).closed[0]?.error,
    chooseDatabases(planned({ databases: ['shop', 'half'] }), [invalid, open('shop')], []).missing[0]?.error,
  ].map((error) => (error as LifeboatError).hint);
  for (const hint of hints) {
    expect(hint).toMatch(/only allows dropping it: DROP DATABASE "half"\./);
    expect(hint).not.toContain('ALLOW_CONNECTIONS');
  }
});

test('a template is backed up if it is named, else reported', () => {
  const all = [
    { ...open('template0'), template: true, closed: 'it allows no connections' },
    { ...open('template1'), template: true },
    { ...open('template_app'), template: true },
    open('shop'),
  ];
  expect(choose(all)).toEqual([['shop'], []]);
  expect(chooseDatabases(planned(), all, []).templates).toEqual(['template_app']);
  expect(chooseDatabases(planned({ excludeDatabases: ['template_app'] }), all, []).templates).toEqual([]);
  const named = chooseDatabases(planned({ databases: ['shop', 'template_app', 'template1'] }), all, []);
  expect(named.databases.map(({ name }) => name)).toEqual(['template1', 'template_app', 'shop']);
  expect(named.templates).toEqual([]);
});

test('old databases are left out, with a warning if no snapshot holds them', () => {
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
        /^database shop__before_4f1c9a, which a restore put aside, is not backed up, and no snapshot/,
      ),
    ],
  ]);
  const many = ['shop', 'blog'].map((name) => ({ name: `${name}__before_4f1c9a`, stored: false }));
  expect(choose([...all, open('blog__before_4f1c9a')], {}, many)[1]).toEqual([
    expect.stringMatching(/^databases shop__before_4f1c9a, blog__before_4f1c9a, which a restore put aside, are not/),
  ]);
  const named = { databases: ['shop__before_4f1c9a'] };
  expect(choose(all, named, aside(false))).toEqual([['shop__before_4f1c9a'], []]);
});
