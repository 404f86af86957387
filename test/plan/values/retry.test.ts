import { describe, expect, test } from 'vitest';
import { isDue, mayPass, nextTry } from '../../../src/plan/values/retry.ts';
import { canWait, isWorthRetry } from '../../../src/report/tries.ts';
import { makeResult } from '../../report/fixtures.ts';

const now = new Date('2026-11-20T03:01:00Z');
const minutesTo = (at: Date | undefined) => at && (at.getTime() - now.getTime()) / 60_000;

test.each([
  ['0 3 * * *', 1, 10],
  ['0 3 * * *', 2, 20],
  ['0 3 * * *', 3, undefined],
  // The next run is soon anyway.
  ['*/10 * * * *', 1, undefined],
  ['0 * * * *', 2, 20],
])('a run by %s that failed %i times is made again in %s minutes', (schedule, tries, minutes) => {
  expect(minutesTo(nextTry({ schedules: [schedule], tries }, 'UTC', now))).toBe(minutes);
});

test('the first of several schedules decides', () => {
  expect(nextTry({ schedules: ['0 3 * * *', '5 3 * * *'], tries: 1 }, 'UTC', now)).toBeUndefined();
});

test.each([
  ['2026-11-20T03:01:00Z', true],
  ['2026-11-20T03:02:00Z', false],
  ['2026-11-19T03:00:00Z', true],
  // Recorded by a wrong clock.
  ['2027-11-20T03:00:00Z', true],
  ['not a time', true],
])('one that is to be at %s is due: %s', (at, due) => {
  expect(isDue({ schedules: [], since: '', tries: 1, at }, now)).toBe(due);
});

test('a failure that only a person can fix is not retried', () => {
  const lasting = ['PG_AUTH', 'LABEL_INVALID', 'KEY_MISSING', 'TREE_EMPTY', 'NOTHING_LABELLED', 'HOOK_FAILED'] as const;
  expect(lasting.filter((code) => mayPass({ code, message: '' }))).toEqual([]);
  expect(mayPass({ code: 'PG_DUMP_FAILED', message: 'pg_dump of app failed', cause: 'connection reset' })).toBe(true);
  const denied = { code: 'PG_DUMP_FAILED', message: 'pg_dump of app failed', cause: 'permission denied for table t' };
  expect(mayPass(denied as never)).toBe(false);
});

describe('of what is not well after a run', () => {
  const passing = { code: 'PG_UNREACHABLE', message: 'away' } as const;
  const lasting = { code: 'PG_AUTH', message: 'refused' } as const;
  const dropped = { code: 'PG_DATABASE_UNKNOWN', message: 'gone' } as const;
  const failed = (error: typeof passing | typeof lasting) => makeResult({ status: 'failed', error });
  test.each([
    ['nothing is wrong', { results: [makeResult()] }, false],
    ['a server was away', { results: [makeResult(), failed(passing)] }, true],
    ['another one refused the password', { results: [failed(lasting), failed(passing)] }, true],
    ['only that', { results: [failed(lasting)] }, false],
    ['a part could not be read', { results: [makeResult({ status: 'partial' })] }, false],
    ['a database was locked', { results: [makeResult({ status: 'partial', error: passing })] }, true],
    ['a database was dropped meanwhile', { results: [makeResult({ status: 'partial', error: dropped })] }, true],
    ['the destination is away', { results: [], error: { code: 'DEST_UNREACHABLE', message: 'away' } }, true],
    ['the agent is being stopped', { results: [], error: { code: 'INTERRUPTED', message: 'stop' } }, true],
    ['a label is wrong', { results: [], error: { code: 'LABEL_INVALID', message: 'wrong' } }, false],
  ])('%s: is it worth a retry?', (_, part, worth) => {
    expect(isWorthRetry(part as never)).toBe(worth);
  });

  const copies = [{ status: 'failed', error: { code: 'DEST_UNREACHABLE', message: 'away' } }];
  const label = { severity: 'error', code: 'LABEL_INVALID', subject: 'web', message: 'wrong' };
  test.each([
    ['a copy is away', { results: [makeResult()], copies }, true],
    ['a copy is away, and a server refused the password', { results: [failed(lasting)], copies }, false],
    ['a copy is away, and a part could not be read', { results: [makeResult({ status: 'partial' })], copies }, false],
    ['a copy is away, and a label is wrong', { results: [makeResult()], copies, problems: [label] }, false],
    ['a copy is away, and so is a server', { results: [failed(lasting), failed(passing)], copies }, true],
    ['a copy is away, and the run failed for good', { results: [], error: lasting, copies }, false],
    ['a retry brought only the copies up to date, and one is still away', { results: [], copies }, true],
  ])('%s: can the report wait for the retry?', (_, part, waits) => {
    expect(isWorthRetry(part as never)).toBe(true);
    expect(canWait({ problems: [], ...part } as never)).toBe(waits);
  });
});
