import { expect, test } from 'vitest';
import type { PostgresFacts } from '../../../../src/sources/postgres/facts/facts.ts';
import { collationWarnings, summarise } from '../../../../src/sources/postgres/facts/summary.ts';

test('the summary of a server counts foreign keys that are too large to check', () => {
  const facts = (...uncheckedKeys: (number | undefined)[]) =>
    ({
      rows: 7,
      databases: uncheckedKeys.map((keys) => ({ tables: [], ...(keys === undefined ? {} : { uncheckedKeys: keys }) })),
    }) as unknown as PostgresFacts;
  expect(summarise(facts(0, 2, undefined, 1), [])).toBe(
    '4 databases, 0 tables, 7 rows, 3 foreign keys not checked for orphan rows: too large',
  );
  expect(summarise(facts(0, undefined), [])).toBe('2 databases, 0 tables, 7 rows');
});

test('a warning of a recorded collation version names the version of the system, which musl lacks', () => {
  const database = (name: string, collationVersion?: string, actualCollationVersion?: string) => ({
    name,
    ...(collationVersion === undefined ? {} : { collationVersion }),
    ...(actualCollationVersion === undefined ? {} : { actualCollationVersion }),
  });
  const databases = [database('same', '2.36', '2.36'), database('other', '2.36', '2.41'), database('musl', '2.36')];
  const facts = { databases: [...databases, database('none', undefined, '2.41')] } as unknown as PostgresFacts;
  expect(collationWarnings(facts)).toEqual([
    'database other: collation version 2.36 was recorded, the system has 2.41; text indexes may need REINDEX',
    'database musl: collation version 2.36 was recorded, the system has none; text indexes may need REINDEX',
  ]);
});
