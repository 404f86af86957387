import { beforeEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { beginTry, dueRetry, endRetries, type RetryDeps } from '../../src/daemon/retries.ts';
import type { Accepted } from '../../src/plan/accepted.ts';
import type { Plan } from '../../src/plan/model.ts';
import type { RunReport } from '../../src/report/events.ts';
import type { PendingRetry } from '../../src/report/tries.ts';
import type { LastResult } from '../../src/run/source-status.ts';
import type { CopyState } from '../../src/run/state.ts';
import { makeResult } from '../report/fixtures.ts';

const NIGHTLY = '0 3 * * *';
const SINCE = '2026-11-21T03:00:00.000Z';
const END = '2026-11-21T03:02:00.000Z';

let retries: PendingRetry[];
let results: Record<string, LastResult>;
let accepted: Accepted;
let last: RunReport | undefined;
let copies: Record<string, CopyState>;
let deps: RetryDeps;

beforeEach(() => {
  retries = [{ schedules: [NIGHTLY], since: SINCE, tries: 1, at: '2026-11-21T03:12:00.000Z' }];
  results = {};
  accepted = {};
  last = undefined;
  copies = {};
  deps = {
    state: {
      retries: async () => retries,
      saveRetries: async (next) => {
        retries = [...next];
      },
      results: async () => results,
      accepted: async () => accepted,
      lastRun: async () => last,
      copies: async () => copies,
    },
    copies: ['s3://far/shop'],
    log: silentLog,
    now: () => new Date('2026-11-21T03:12:00Z'),
    zone: 'UTC',
  };
});

const planOf = (...names: string[]) =>
  ({ project: 'shop', problems: [], sources: names.map((name) => ({ name, schedule: NIGHTLY })) }) as unknown as Plan;
const result = (status: LastResult['status'], at = END): LastResult => ({ run: 'r1', at, status });

describe('a source that vanished', () => {
  const vanished = async () => {
    results = { db: result('ok'), web: result('failed') };
    return (await dueRetry(deps, planOf('db'))) !== undefined;
  };

  test.each([
    ['was never accepted', undefined, true],
    ['was accepted long ago, came back, and is gone again', { at: '2026-01-01T00:00:00.000Z', sequence: 3 }, true],
    ['was accepted long ago by an earlier version', '2026-01-01T00:00:00.000Z', true],
    ['was accepted since', { at: '2026-11-21T03:05:00.000Z', sequence: 9 }, false],
    ['was accepted since, in the form of an earlier version', '2026-11-21T03:05:00.000Z', false],
  ])('and %s', async (_, said, isTried) => {
    if (said) accepted = { web: said };
    expect(await vanished()).toBe(isTried);
    expect(retries).toHaveLength(isTried ? 1 : 0);
  });

  test.each([
    ['before the run, by a clock that was ahead', { at: '2027-01-01T00:00:00.000Z', sequence: 7 }, true],
    ['after the run, by a clock that fell back', { at: '2026-01-01T00:00:00.000Z', sequence: 8 }, false],
  ])('and was accepted %s', async (_, said, isTried) => {
    accepted = { web: said };
    results = { db: result('ok'), web: { ...result('failed'), after: 8 } };
    expect((await dueRetry(deps, planOf('db'))) !== undefined).toBe(isTried);
  });
});

const away = { code: 'PG_STALLED', message: 'database app is not stored: its dump waits for a lock' } as const;
const denied = { code: 'PG_DUMP_FAILED', message: 'failed', cause: 'permission denied for table t' } as const;

test.each<[string, string[] | undefined, Record<string, LastResult>, string[] | undefined]>([
  ['the whole run failed before it knew of any source', ['db'], {}, ['db']],
  ['nothing is planned any more', [], { db: result('failed') }, []],
  ['nothing was planned at the first try either', [], {}, []],
  ['the engine does not answer', undefined, { db: result('failed') }, []],
  ['all have succeeded since', ['db', 'web'], { db: result('ok'), web: result('ok') }, undefined],
  ['one was not reached', ['db', 'web'], { db: result('ok') }, ['web']],
  ['a database was locked', ['db', 'web'], { db: { ...result('partial'), error: away }, web: result('ok') }, ['db']],
  ['a table may not be read', ['db'], { db: { ...result('partial'), error: denied as never } }, undefined],
])('when %s', async (_, planned, known, tried) => {
  results = known;
  const due = await dueRetry(deps, planned && planOf(...planned));
  expect(due && (planned ? planOf(...planned).sources : []).filter(due.only).map(({ name }) => name)).toEqual(tried);
  expect(retries).toHaveLength(tried ? 1 : 0);
});

test('a state that cannot be written is written again until that succeeds', async () => {
  retries = [];
  const { saveRetries } = deps.state;
  deps.state.saveRetries = async () => {
    throw new Error('disk full');
  };
  const { ended } = await beginTry(deps, [NIGHTLY]);
  await ended({ retry: { at: END, quiet: true } } as RunReport);
  expect((await dueRetry(deps, planOf('db')))?.retry).toMatchObject({ at: END, tries: 1 });
  deps.state.saveRetries = saveRetries;
  await ended({} as RunReport);
  expect(await dueRetry(deps, planOf('db'))).toBeUndefined();
});

test('the results of a try are passed to the next one, even by a try that crashed', async () => {
  const earlier = { results: [makeResult()], problems: [] };
  const first = await beginTry(deps, [NIGHTLY]);
  expect(first.earlier).toBeUndefined();
  first.hand(earlier);
  await first.ended({ retry: { at: END, quiet: true } } as RunReport);
  const again = await dueRetry(deps, planOf('db'));
  expect(again?.retry.earlier).toEqual(earlier);
  // It is recorded before it begins, and writes nothing else.
  await beginTry(deps, [NIGHTLY], again?.retry);
  expect(retries).toMatchObject([{ tries: 2, earlier }]);
});

test('an unreported run is repeated as a whole once nothing is wrong', async () => {
  results = { db: result('ok'), web: result('failed') };
  accepted = { web: { at: '2026-11-21T03:05:00.000Z', sequence: 9 } };
  retries = retries.map((one) => ({ ...one, unreported: true }));
  last = { retry: { at: END, quiet: true } } as RunReport;
  const due = await dueRetry(deps, planOf('db'));
  const { sources } = planOf('db');
  expect(sources.map((source) => due?.only(source))).toEqual([true]);
});

const DAILY = '5 3 * * *';
const behind = {
  ...({ name: 's3://far/shop', status: 'failed', snapshots: 0, objects: 0, bytes: 0 } as const),
  error: { code: 'DEST_UNREACHABLE', message: 'away' },
} as const;
const waiting = (schedule: string, run: string): PendingRetry => ({
  ...{ schedules: [schedule], since: SINCE, tries: 1, at: '2026-11-21T03:12:00.000Z', unreported: true },
  earlier: {
    results: [makeResult({ name: 'db', run, fell: { since: 'r0', why: ['rows fell by 60 %'] } })],
    ...{ runs: [run], problems: [], copies: [behind] },
  },
});

test('a retry whose run was not reported stays due, although another run came last and nothing is left to do', async () => {
  results = { db: result('ok') };
  retries = [waiting(NIGHTLY, 'r1')];
  last = { id: 'r2' } as RunReport;
  expect(await dueRetry(deps, planOf('db'))).toMatchObject({ copiesOnly: true });
});

test('a retry is dropped if a run that came later has replaced everything wrong that it found', async () => {
  results = { db: { ...result('ok'), run: 'r2' } };
  retries = [waiting(NIGHTLY, 'r1')];
  last = { id: 'r2' } as RunReport;
  expect(await dueRetry(deps, planOf('db'))).toBeUndefined();
});

test('a retry whose run was reported is dropped, although the last run is not reported yet', async () => {
  results = { db: result('ok') };
  last = { id: 'r2', retry: { at: END, quiet: true } } as RunReport;
  expect(await dueRetry(deps, planOf('db'))).toBeUndefined();
  expect(retries).toEqual([]);
});

test.each([true, false])('a pending retry records whether its run is still to be reported: %s', async (quiet) => {
  const { ended } = await beginTry(deps, [NIGHTLY]);
  await ended({ retry: { at: END, quiet } } as RunReport);
  expect(retries.map(({ unreported = false }) => unreported)).toEqual([quiet]);
  // A try that dies leaves it as it was.
  await beginTry(deps, [NIGHTLY], retries[0]);
  expect(retries.map(({ unreported = false }) => unreported)).toEqual([quiet]);
});

test('an acceptance drops only the retry whose run can be reported now', async () => {
  results = { db: result('ok') };
  retries = [waiting(NIGHTLY, 'r1'), { ...waiting(DAILY, 'r2'), earlier: { results: [], runs: ['r2'], problems: [] } }];
  last = { id: 'r2', retry: { at: END, quiet: true } } as RunReport;
  expect(await endRetries(deps, planOf('db'), {})).toBe(last);
  expect(retries.map(({ schedules }) => schedules)).toEqual([[NIGHTLY]]);
  expect(await endRetries(deps, planOf('db'), {})).toBeUndefined();
  expect(retries).toHaveLength(1);
});

test('a copy that was removed from the settings is not waited for, and no report calls it behind', async () => {
  results = { db: result('ok') };
  copies = { [behind.name]: { behindSince: END } };
  retries = [waiting(NIGHTLY, 'r1')];
  expect(await dueRetry(deps, planOf('db'))).toMatchObject({ copiesOnly: true });
  deps.copies = [];
  const due = await dueRetry(deps, planOf('db'));
  expect(due?.copiesOnly).toBeUndefined();
  const { earlier } = await beginTry(deps, [NIGHTLY], due?.retry);
  expect(earlier?.copies).toBeUndefined();
});
