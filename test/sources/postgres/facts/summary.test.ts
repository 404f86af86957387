import { expect, test } from 'vitest';
import type { PostgresFacts } from '../../../../src/sources/postgres/facts/facts.ts';
import { summarise } from '../../../../src/sources/postgres/facts/summary.ts';

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
