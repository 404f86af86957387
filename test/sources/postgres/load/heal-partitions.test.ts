import { describe, expect, it } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { analyseDatabase } from '../../../../src/sources/postgres/load/analyse-database.ts';
import { fillThroughRoot, standIn } from '../../../../src/sources/postgres/load/heal-partitions.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';
import type { Tools } from '../../../../src/sources/postgres/server/tools.ts';

const refusal = (code: string, message: string) =>
  new LifeboatError('PG_QUERY', 'a query failed', {
    cause: Object.assign(new Error(message), { code, severity: 'ERROR' }),
  });

/** A session that refuses statements with some beginning. */
function sessionThat(refuses: string, said: string[]): Session {
  const run = async (sql: string) => {
    if (sql.startsWith(refuses)) throw refusal('23514', 'no partition of relation "r" found for row');
    said.push(sql);
  };
  const one = async () => ({ root: 'public.r', columns: 'id' });
  const all = async () => {
    const state = said.findLast((sql) => sql.endsWith('TRIGGER "t"'))?.includes('DISABLE') ? 'D' : 'A';
    return [{ kind: 'TRIGGER', table: 'public.r', name: 't', state, depth: 0 }];
  };
  return { run, one, all } as unknown as Session;
}

describe('a partition that a plain table replaces', () => {
  it('has a unique temporary name, however its own name begins', async () => {
    const session = sessionThat('never', []);
    const long = 'p'.repeat(60);
    const asides = [
      await standIn(session, { schema: 'public', name: `${long}a` }, 7),
      await standIn(session, { schema: 'public', name: `${long}b` }, 8),
    ].map(({ aside }) => aside);
    expect(new Set(asides).size).toBe(2);
  });

  it('fires no trigger of the topmost table', async () => {
    const said: string[] = [];
    const session = sessionThat('never', said);
    await fillThroughRoot(session, await standIn(session, { schema: 'public', name: 'p1' }, 7));
    expect(said.slice(1, 4)).toEqual([
      'ALTER TABLE public.r DISABLE TRIGGER "t"',
      expect.stringContaining('INSERT INTO public.r '),
      'ALTER TABLE public.r ENABLE ALWAYS TRIGGER "t"',
    ]);
  });

  it('is put back if the server refuses its rows, and the refusal is returned', async () => {
    const said: string[] = [];
    const session = sessionThat('INSERT', said);
    const stood = await standIn(session, { schema: 'public', name: 'p1' }, 7);
    expect(await fillThroughRoot(session, stood)).toBe('no partition of relation "r" found for row');
    expect(said.at(-1)).toContain(`"${stood.aside}" RENAME TO "p1"`);
  });
});

describe('a table that cannot be analysed', () => {
  it.each([
    ['went away', async () => []],
    [
      'has a name in no encoding',
      async () => {
        throw refusal('22021', 'invalid byte sequence');
      },
    ],
  ])('is a warning: it %s', async (_, columns) => {
    const session = {
      all: async (sql: string) => (sql.includes('pg_attribute') ? columns() : [{ schema: 'public', name: 't' }]),
      run: async () => {
        throw refusal('42P01', 'relation "public.t" does not exist');
      },
      close: async () => undefined,
    };
    const tools = { session: async () => session, activity: async () => '' } as unknown as Tools;
    const signal = new AbortController().signal;
    const { warnings } = await analyseDatabase({ tools, database: 'app', jobs: 1, stallTimeoutMs: 60_000, signal });
    expect(warnings).toEqual(['table public.t could not be analysed: relation "public.t" does not exist']);
  });
});
