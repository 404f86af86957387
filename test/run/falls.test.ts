import { expect, test } from 'vitest';
import { type FallDeps, fallsOf } from '../../src/falls.ts';
import { silentLog } from '../../src/log.ts';
import type { LastGood } from '../../src/run-rules.ts';
import type { CapturedTree } from '../../src/sources/source.ts';

const facts = (names: string[], over: object = {}) => ({
  kind: 'postgres',
  compression: 'zstd',
  rows: 100,
  databases: names.map((name) => ({ name })),
  ...over,
});
const object = { key: 'k', size: 1, sha256: 'h' };
const last = (over: object = {}) =>
  ({
    snapshot: 's',
    at: 't',
    entry: { rows: 100, bytes: 1000, files: 4, facts: object, ...over },
  }) as unknown as LastGood;
const deps = (before: unknown): FallDeps => ({
  readFacts: async () => before,
  log: silentLog,
  share: 0.5,
});
const falls = (given: FallDeps, present: CapturedTree['facts'], ...rest: Rest) =>
  fallsOf(given, { facts: present }, ...rest);
type Rest = [Parameters<typeof fallsOf>[2], Parameters<typeof fallsOf>[3]];
const now = { files: 4, bytes: 900 };

test('a database that the last good snapshot had, and this one has not, is told', async () => {
  const before = facts(['app', 'blog', 'shop']);
  expect(await falls(deps(before), facts(['app', 'new']), now, last())).toEqual([
    'database blog is not in this backup, and was in the last good one',
    'database shop is not in this backup, and was in the last good one',
  ]);
  expect(await falls(deps(before), facts(['app', 'blog', 'shop']), now, last())).toEqual([]);
});

test('a dump that is much smaller is told though its rows are as many, unless it is compressed in another way', async () => {
  const small = { files: 4, bytes: 100 };
  expect(await falls(deps(facts(['app'])), facts(['app']), small, last())).toEqual([
    'size in bytes fell by 90 % since the last good snapshot: from 1,000 to 100',
  ]);
  const plain = facts(['app'], { compression: 'none' });
  expect(await falls(deps(plain), facts(['app']), small, last())).toEqual([]);
  expect(await falls(deps(plain), facts(['app'], { rows: 1 }), small, last())).toHaveLength(1);
});

test('facts that cannot be read leave the sizes to compare, and a first backup nothing', async () => {
  const unreadable = async () => {
    throw new Error('damaged');
  };
  const broken = { ...deps(undefined), readFacts: unreadable };
  expect(await falls(broken, facts([]), { files: 4, bytes: 100 }, last())).toHaveLength(1);
  expect(await falls(broken, facts([]), { files: 0, bytes: 0 }, undefined)).toEqual([]);
  // Files have facts of another form.
  expect(
    await falls(deps(facts(['app'])), { kind: 'volume' }, { files: 1, bytes: 1000 }, last({ rows: undefined })),
  ).toEqual(['number of files fell by 75 % since the last good snapshot: from 4 to 1']);
});

test('a database that could not be dumped is no fall, and hides none of the others', async () => {
  const tables = (rows: number) => [{ schema: 'public', name: 't', owner: 'o', rows, exact: true, bytes: 1 }];
  const database = (name: string, rows: number) => ({ name, tables: tables(rows) });
  const before = facts([], { databases: [database('app', 900), database('blog', 100)] });
  const error = { code: 'PG_DUMP_FAILED' as const, message: 'failed' };
  const missing = [{ name: 'app', error }, { name: 'blog' }];
  const stored = (rows: number) => ({
    facts: facts([], { rows, databases: [database('blog', rows)] }),
    databases: missing,
  });
  const small = { files: 2, bytes: 100 };
  const lastGood = last({ rows: 1000 });
  expect(await fallsOf(deps(before), stored(100), small, lastGood)).toEqual([]);
  expect(await fallsOf(deps(before), stored(10), small, lastGood)).toEqual([
    'rows fell by 90 % since the last good snapshot: from 100 to 10',
  ]);
});
