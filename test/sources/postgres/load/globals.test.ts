import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  inSteps,
  roleOfStatement,
  rolesNeeded,
  splitStatements,
  statementsFor,
} from '../../../../src/sources/postgres/facts/globals-statements.ts';
import { loadGlobals } from '../../../../src/sources/postgres/load/globals.ts';
import { quoteIdentifier, quoteLiteral } from '../../../../src/sources/postgres/server/quote.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';

describe('splitting globals', () => {
  it('keeps statements whole whatever names and literals contain', () => {
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

  it('finds what some roles need: their own statements, and those of their members and of the groups of these', () => {
    const of = (role: string) => [`CREATE ROLE ${role}`, `ALTER ROLE ${role} WITH LOGIN PASSWORD 'x'`];
    const all = [
      ...['a', 'b', 'c', '"D"'].flatMap(of),
      'CREATE TABLESPACE fast OWNER a',
      'GRANT b TO a GRANTED BY postgres',
      'GRANT c TO b GRANTED BY postgres',
      'GRANT a TO "D" GRANTED BY postgres',
    ];
    const everyone = [...['a', 'b', 'c', '"D"'].flatMap(of), ...all.slice(-3)];
    expect(statementsFor(all, ['a'], new Set())).toEqual(everyone);
    expect(statementsFor(all, ['c'], new Set())).toEqual(everyone);
    // Without the other members of a group of the role.
    const memberships = [
      { group: 'readers', member: 'a' },
      { group: 'readers', member: 'stranger' },
    ];
    expect([...rolesNeeded(memberships, ['a'])]).toEqual(['a', 'readers']);
    expect([...rolesNeeded(memberships, ['readers'])].toSorted()).toEqual(['a', 'readers', 'stranger']);
    const parameter = ['GRANT SET ON PARAMETER work_mem TO "D"', 'GRANT ALTER SYSTEM ON PARAMETER app.x TO other'];
    expect(statementsFor([...all, ...parameter], ['a'], new Set())).toEqual([...everyone, parameter[0]]);
    expect(statementsFor([...all, ...parameter], ['a'], new Set(['D']))).not.toContain(parameter[0]);
    const groupOnly = ['CREATE ROLE g', 'GRANT g TO m'];
    expect(statementsFor(groupOnly, ['g'], new Set(['m']))).toEqual(groupOnly);
  });

  it('creates a role and sets its attributes in one step', () => {
    const steps = inSteps([
      ...['CREATE ROLE a', "ALTER ROLE a WITH LOGIN PASSWORD 'x'", 'CREATE ROLE b', 'ALTER ROLE a SET x TO 1'],
      ...["ALTER ROLE c WITH LOGIN PASSWORD 'y'", 'GRANT a TO b'],
    ]);
    expect(steps.map(({ sql }) => sql)).toEqual([
      "CREATE ROLE a; ALTER ROLE a WITH LOGIN PASSWORD 'x'",
      ...['CREATE ROLE b', 'ALTER ROLE a SET x TO 1', "ALTER ROLE c WITH LOGIN PASSWORD 'y'", 'GRANT a TO b'],
    ]);
    expect(steps.map(({ creates }) => creates)).toEqual([true, true, false, false, false]);
  });

  it('finds the role of a statement', () => {
    expect(roleOfStatement('CREATE ROLE app')).toBe('app');
    expect(roleOfStatement('GRANT readers TO "App ""x""" GRANTED BY postgres')).toBe('App "x"');
    expect(roleOfStatement('CREATE TABLESPACE fast OWNER app')).toBeUndefined();
  });

  it('creates a role without a date that cannot be read, and warns of one that may be another date', async () => {
    const ran: string[] = [];
    const session = {
      all: async () => [],
      async run(sql: string) {
        if (sql.includes("'25/02/2030'")) throw Object.assign(new Error('date'), { code: '22008', severity: 'ERROR' });
        if (sql.startsWith('CREATE')) ran.push(sql);
      },
    } as unknown as Session;
    const role = (name: string, date: string) =>
      `CREATE ROLE ${name}; ALTER ROLE ${name} WITH NOLOGIN VALID UNTIL '${date}';`;
    const sql = [role('a', '25/02/2030'), role('b', '03/02/2030'), role('c', '2030-02-03 12:00:00+00')].join('\n');
    const { created, warnings } = await loadGlobals(session, `${sql}${role('d', 'infinity')}`);
    expect(created).toEqual(['a', 'b', 'c', 'd']);
    expect(ran.filter((text) => !text.includes('VALID UNTIL'))).toEqual(['CREATE ROLE a; ALTER ROLE a WITH NOLOGIN']);
    expect(warnings).toEqual([
      expect.stringMatching(/^globals: role a is created without VALID UNTIL/),
      expect.stringMatching(/^globals: role b is valid until '03\/02\/2030'/),
    ]);
  });
});
