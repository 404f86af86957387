import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import type { NameDependent } from '../../../../src/sources/postgres/facts/name-dependents.ts';
import { recomputeDependents } from '../../../../src/sources/postgres/load/recompute-dependents.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';

const found: NameDependent[] = [
  { kind: 'generated column', object: 'public.t.g', relation: null, statement: null },
  { kind: 'constraint', object: 'c of public.t', relation: null, statement: null },
  {
    kind: 'materialized view',
    object: 'public.a',
    relation: 'public.a',
    statement: 'REFRESH MATERIALIZED VIEW public.a',
  },
  {
    kind: 'materialized view',
    object: 'public.b',
    relation: 'public.b',
    statement: 'REFRESH MATERIALIZED VIEW public.b',
  },
  { kind: 'index', object: 'public.i', relation: null, statement: 'REINDEX INDEX public.i' },
];

const { signal } = new AbortController();

test('what depends on the name is computed again, and a refusal takes nothing else with it', async () => {
  const ran: string[] = [];
  let closed = 0;
  const session = {
    async run(sql: string) {
      if (sql === 'REFRESH MATERIALIZED VIEW public.a') {
        const cause = Object.assign(new Error('lock timeout'), { code: '55P03', severity: 'ERROR' });
        throw new LifeboatError('PG_QUERY', 'a query failed', { cause });
      }
      ran.push(sql);
    },
    close: async () => void closed++,
  } as unknown as Session;
  const warnings = await recomputeDependents('app', found, { open: async () => session, signal });
  expect(ran.filter((sql) => !sql.startsWith('SET '))).toEqual([
    'REFRESH MATERIALIZED VIEW public.b',
    'REINDEX INDEX public.i',
    'ANALYZE public.b',
  ]);
  expect(warnings).toEqual([
    expect.stringMatching(/generated column public\.t\.g depends on the name/),
    expect.stringMatching(/\(REFRESH MATERIALIZED VIEW public\.a\): lock timeout$/),
  ]);
  expect(closed).toBe(1);
});

test('a database that cannot be opened after the swap is restored, with a warning for each statement', async () => {
  const open = () => Promise.reject(new LifeboatError('PG_UNREACHABLE', 'no answer'));
  const warnings = await recomputeDependents('app', found, { open, signal });
  expect(warnings.filter((text) => text.endsWith('no answer'))).toHaveLength(3);
  expect(await recomputeDependents('app', [], { open, signal })).toEqual([]);
});

test('after an interrupt, one warning says that recovery computes the rest', async () => {
  const open = () => Promise.reject(new LifeboatError('INTERRUPTED', 'stop'));
  expect(await recomputeDependents('app', found, { open, signal: AbortSignal.abort() })).toEqual([
    expect.stringMatching(/generated column public\.t\.g depends on the name/),
    expect.stringMatching(/not computed again yet, because the restore was interrupted/),
  ]);
});
