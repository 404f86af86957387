import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { roleOfStatement, splitStatements, statementsFor } from '../../src/sources/postgres/globals.ts';
import { quoteIdentifier, quoteLiteral } from '../../src/sources/postgres/quote.ts';

describe('splitting globals', () => {
  it('keeps statements whole whatever stands in names and literals', () => {
    const text = fc.string({
      unit: fc.constantFrom('a', ';', "'", '"', '\\', '\n', '-', 'E', 'é'),
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(text, text), { maxLength: 5 }), (pairs) => {
        const statements = pairs.map(([n, v]) => `ALTER ROLE ${quoteIdentifier(n)} SET x TO ${quoteLiteral(v)}`);
        const file = `--\n-- Roles\n--\n\\restrict abc\n\n${statements.map((s) => `${s};\n`).join('\n')}`;
        expect(splitStatements(file)).toEqual(statements);
        expect(splitStatements(file).map(roleOfStatement)).toEqual(pairs.map(([n]) => n));
      }),
    );
  });

  it('finds what some roles need: their own statements, and those of the groups that they are in', () => {
    const of = (role: string) => [`CREATE ROLE ${role}`, `ALTER ROLE ${role} WITH LOGIN PASSWORD 'x'`];
    const all = [
      ...['a', 'b', 'c', '"D"'].flatMap(of),
      'CREATE TABLESPACE fast OWNER a',
      'GRANT b TO a GRANTED BY postgres',
      'GRANT c TO b GRANTED BY postgres',
      'GRANT a TO "D" GRANTED BY postgres',
    ];
    expect(statementsFor(all, ['a'], new Set())).toEqual([...['a', 'b', 'c'].flatMap(of), ...all.slice(-3, -1)]);
    expect(statementsFor(all, ['a'], new Set(['D'])).at(-1)).toBe(all.at(-1));
    expect(statementsFor(all, ['c'], new Set())).toEqual(of('c'));
  });

  it('knows whom a statement is about', () => {
    expect(roleOfStatement('CREATE ROLE app')).toBe('app');
    expect(roleOfStatement('GRANT readers TO "App ""x""" GRANTED BY postgres')).toBe('App "x"');
    expect(roleOfStatement('CREATE TABLESPACE fast OWNER app')).toBeUndefined();
  });
});
