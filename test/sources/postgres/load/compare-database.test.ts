import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import type { DatabaseFacts, TableFacts } from '../../../../src/sources/postgres/facts/facts.ts';
import { compareDatabase } from '../../../../src/sources/postgres/load/compare-database.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';

const GIB = 1024 ** 3;
const table = (name: string, more: Partial<TableFacts> = {}): TableFacts => ({
  ...{ schema: 'public', name, owner: 'app', rows: 3, exact: true, bytes: 8192 },
  ...more,
});
const recorded = (...tables: TableFacts[]) =>
  ({ name: 'shop', extensions: [], largeObjects: 0, settings: [], tables }) as unknown as DatabaseFacts;

/** A database with the rows of each table; an error if the server refuses to count it. */
function session(tables: Record<string, number | Error>): Session {
  const rowsOf = (sql: string) => {
    const names = [...sql.matchAll(/FROM ONLY "public"\."(\w+)"/g)].map(([, name]) => name as string);
    const refused = names.map((name) => tables[name]).find((one) => one instanceof Error);
    if (refused) throw refused;
    if (sql.endsWith(' LIMIT 1')) return tables[names[0] as string] === 0 ? [] : [{}];
    return names.map((name, i) => ({ i, n: String(tables[name]) }));
  };
  return {
    ...{ database: 'shop', versionNumber: 170004, run: async () => undefined, close: async () => undefined },
    one: async () => ({ objects: '0' }) as never,
    async all<T>(sql: string) {
      if (sql.includes('FROM ONLY')) return rowsOf(sql) as T[];
      return (
        sql.includes("relkind = 'r'") ? Object.keys(tables).map((name) => ({ schema: 'public', name })) : []
      ) as T[];
    },
  };
}
const refusal = new LifeboatError('PG_QUERY', 'a query failed', { cause: new Error('function f() does not exist') });

test('the result says how many tables were compared, and which ones the server refuses to count', async () => {
  const facts = recorded(table('a'), table('b'), table('large', { exact: false, uncounted: 'large', bytes: 2 * GIB }));
  const found = await compareDatabase(session({ a: 3, b: refusal, large: 9 }), facts);
  expect(found).toMatchObject({ rows: 3, compared: 1, uncompared: 2 });
  expect(found.refused).toEqual([expect.stringMatching(/^public\.b cannot be counted now: /)]);
});

test('a large table that was not counted is named if it is empty: its rows may have been deleted before the dump', async () => {
  const large = (more: Partial<TableFacts> = {}) =>
    table('large', { exact: false, uncounted: 'large', bytes: 2 * GIB, rows: 5000, ...more });
  const compare = (facts: TableFacts, rows: number | Error) =>
    compareDatabase(session({ large: rows }), recorded(facts));
  expect((await compare(large(), 0)).empty).toEqual([{ schema: 'public', name: 'large', rows: 5000 }]);
  // It was emptied during the dump, or the estimate of a small table is old.
  for (const facts of [large({ uncounted: 'rewritten' }), large({ bytes: GIB, uncounted: 'late' }), large({ rows: 0 })])
    expect(await compare(facts, 0)).toMatchObject({ compared: 0, uncompared: 1, empty: [] });
  expect(await compare(large(), 1)).toMatchObject({ refused: [], empty: [] });
  expect(await compare(large(), refusal)).toMatchObject({ uncompared: 1, empty: [] });
});

test('a table that only counts with the search_path of its database is counted, before the database sets it', async () => {
  let path = '';
  const plain = session({ a: 3 });
  const server: Session = {
    ...plain,
    async run(sql) {
      if (sql.startsWith('SET LOCAL search_path')) path = sql;
      if (sql.startsWith('ROLLBACK')) path = '';
    },
    async all<T extends object>(sql: string) {
      if (sql.includes('FROM ONLY') && !path.includes("'Own \"s', 'public'")) throw refusal;
      return plain.all<T>(sql);
    },
  };
  const facts = { ...recorded(table('a')), settings: [{ role: null, config: ['search_path="Own ""s", public'] }] };
  expect(await compareDatabase(server, facts)).toMatchObject({ compared: 1, uncompared: 0, refused: [] });
});
