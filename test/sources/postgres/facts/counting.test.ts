import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { CountBudget } from '../../../../src/sources/postgres/facts/count-budget.ts';
import { countRows } from '../../../../src/sources/postgres/facts/count-rows.ts';
import type { TableFacts } from '../../../../src/sources/postgres/facts/facts.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';

const MIB = 1024 ** 2;
const tables = (count: number, bytes: number): TableFacts[] =>
  Array.from({ length: count }, (_, i) => ({ schema: 's', name: `t${i}`, owner: 'o', rows: 0, exact: true, bytes }));

/** Returns how many tables each statement counted. The table `t<n>` has n rows. */
async function statements(all: TableFacts[]): Promise<number[]> {
  const sizes: number[] = [];
  const session = {
    async run() {},
    async all(sql: string) {
      const names = [...sql.matchAll(/"t(\d+)"/g)];
      sizes.push(names.length);
      return names.map(([, n], i) => ({ i, n }));
    },
  };
  await countRows(session as unknown as Session, all);
  expect(all.map(({ rows }) => rows)).toEqual(all.map(({ name }) => Number(name.slice(1))));
  return sizes;
}

test('each large table has its own statement, so the count shows progress', async () => {
  expect(await statements(tables(5, 1024 * MIB))).toEqual([1, 1, 1, 1, 1]);
  expect(await statements(tables(5, 100 * MIB))).toEqual([2, 2, 1]);
});

test('small tables share a statement, at most fifty', async () => {
  expect(await statements(tables(120, 8192))).toEqual([50, 50, 20]);
  expect(await statements([])).toEqual([]);
});

/** A server on which a statement that reads a locked table waits until its lock_timeout, in simulated time. */
function busyServer(isLocked: (table: number) => boolean, costMs = 1) {
  let clock = 0;
  let timeout = 0;
  const waits: number[] = [];
  const session = {
    async run(sql: string) {
      timeout = Number(/lock_timeout = (\d+)/.exec(sql)?.[1] ?? timeout);
    },
    async all(sql: string) {
      const names = [...sql.matchAll(/"t(\d+)"/g)].map(([, n]) => Number(n));
      clock += costMs;
      if (!names.some(isLocked)) return names.map((n, i) => ({ i, n: String(n) }));
      clock += timeout;
      waits.push(timeout);
      const refusal = Object.assign(new Error('canceling statement due to lock timeout'), {
        code: '55P03',
        severity: 'ERROR',
      });
      throw new LifeboatError('PG_QUERY', 'the query failed', { cause: refusal });
    },
  };
  return { session: session as unknown as Session, waits, now: () => clock };
}

test('counts of a source wait at most half a minute for locks, and unlocked tables are counted even so', async () => {
  const server = busyServer((n) => n % 2 === 1);
  const budget = new CountBudget(900_000, server.now);
  for (const _ of ['app', 'blog']) {
    const all = tables(100, 300 * MIB);
    const refused = await countRows(server.session, all, { pace: budget.begin() });
    expect(refused).toHaveLength(50);
    expect(all.map(({ exact }) => exact)).toEqual(all.map((_, i) => i % 2 === 0));
    expect(all[1]).toMatchObject({ exact: false, uncounted: 'locked' });
    expect(all.filter(({ exact }) => exact).map(({ rows }) => rows)).toEqual(all.flatMap((_, i) => (i % 2 ? [] : i)));
  }
  const waited = server.waits.reduce((sum, ms) => sum + ms, 0);
  expect(waited).toBeGreaterThanOrEqual(30_000);
  expect(waited).toBeLessThan(32_000);
});

test('one locked table among many adds no wait for each of its neighbours', async () => {
  const server = busyServer((n) => n === 7);
  const refused = await countRows(server.session, tables(50, 8192), {
    pace: new CountBudget(900_000, server.now).begin(),
  });
  expect(refused.map(({ table }) => table.name)).toEqual(['t7']);
  expect(server.waits).toEqual([10_000, 1000]);
});

test('counts that take longer than the dump and a minute end, and the remaining tables are recorded as not counted', async () => {
  const server = busyServer(() => false, 20_000);
  const pace = new CountBudget(900_000, server.now).begin();
  pace.dumpEnded();
  const all = tables(10, 1024 * MIB);
  const refused = await countRows(server.session, all, { pace });
  expect(all.map(({ exact, uncounted }) => uncounted ?? exact)).toEqual([
    ...Array.from({ length: 4 }, () => true),
    ...Array.from({ length: 6 }, () => 'late'),
  ]);
  expect(refused).toHaveLength(6);
  expect(String(refused[0]?.error)).toContain('no time was left');
});

test('the time for counts begins when they begin: something else may be read before', () => {
  let clock = 0;
  const pace = new CountBudget(900_000, () => clock).begin();
  clock = 5000;
  pace.dumpEnded();
  clock = 120_000;
  expect(pace.lockWaitMs(false)).toBe(10_000);
  clock += 60_000;
  expect(pace.lockWaitMs(false)).toBe(10_000);
  clock += 1;
  expect(pace.lockWaitMs(false)).toBeUndefined();
});

test.each([
  [1000, 10_000],
  [45_000, 45_000],
  [3_600_000, 120_000],
])('after a dump of %i ms, all definitions are read within %i ms', (dumpMs, most) => {
  let clock = 0;
  const pace = new CountBudget(900_000, () => clock).begin();
  expect(pace.readingMs()).toBe(120_000);
  clock = dumpMs;
  pace.dumpEnded();
  expect(pace.readingMs()).toBe(most);
});
