import { expect, test } from 'vitest';
import { missingError } from '../../../../src/sources/postgres/server/missing-error.ts';
import type { CapturedDatabase } from '../../../../src/sources/source.ts';

const failed = (name: string, cause?: string): CapturedDatabase =>
  ({
    name,
    error: { code: 'PG_DUMP_FAILED', message: `pg_dump of ${name} failed`, ...(cause ? { cause } : {}) },
  }) as CapturedDatabase;
const good = (name: string) => ({ name }) as CapturedDatabase;
const never = () => undefined;

test('each missing database is named with the message of the server', () => {
  const missing = ['broke', 'gone', 'lib', 'role'].map((name) => failed(name, `words about ${name}`));
  const error = missingError([good('shop'), ...missing], never);
  for (const { name } of missing) {
    expect(error?.message).toContain(name);
    expect(error?.cause).toContain(`${name}: words about ${name}`);
    expect(error?.hint).toContain(`No snapshot holds ${name}.`);
  }
});

test('the cause of one database is complete, and the causes of several are short', () => {
  const long = 'x'.repeat(2000);
  expect(missingError([good('shop'), failed('a', long)], never)?.cause).toBe(long);
  const several = missingError([failed('a', long), failed('b'), failed('c', 'short')], never)?.cause ?? '';
  expect(several).toMatch(/^a: x{300}…; c: short$/);
  expect(missingError([failed('a'), failed('b')], never)).not.toHaveProperty('cause');
});
