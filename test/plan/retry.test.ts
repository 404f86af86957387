import { describe, expect, test } from 'vitest';
import { isDue, mayPass, nextTry } from '../../src/plan/retry.ts';
import { passingShare } from '../../src/report/events.ts';
import { makeReport, makeResult } from '../report/fixtures.ts';

const now = new Date('2026-11-20T03:01:00Z');
const minutesTo = (at: Date | undefined) => at && (at.getTime() - now.getTime()) / 60_000;

test.each([
  ['0 3 * * *', 1, 10],
  ['0 3 * * *', 2, 20],
  ['0 3 * * *', 3, undefined],
  // The next run comes soon anyway.
  ['*/10 * * * *', 1, undefined],
  ['0 * * * *', 2, 20],
])('a run by %s that failed %i times is made again in %s minutes', (schedule, tries, minutes) => {
  expect(minutesTo(nextTry({ schedules: [schedule], tries }, 'UTC', now))).toBe(minutes);
});

test('of several schedules the one that comes first decides', () => {
  expect(nextTry({ schedules: ['0 3 * * *', '5 3 * * *'], tries: 1 }, 'UTC', now)).toBeUndefined();
});

test.each([
  ['2026-11-20T03:01:00Z', true],
  ['2026-11-20T03:02:00Z', false],
  ['2026-11-19T03:00:00Z', true],
  // Written by a clock that was wrong.
  ['2027-11-20T03:00:00Z', true],
  ['not a time', true],
])('one that is to be at %s is due: %s', (at, due) => {
  expect(isDue({ schedules: [], since: '', tries: 1, at }, now)).toBe(due);
});

test('what only a person can put right is not tried again', () => {
  const lasting = ['PG_AUTH', 'LABEL_INVALID', 'KEY_MISSING', 'TREE_EMPTY', 'NOTHING_LABELLED', 'HOOK_FAILED'] as const;
  expect(lasting.filter((code) => mayPass({ code, message: '' }))).toEqual([]);
  expect(mayPass({ code: 'PG_DUMP_FAILED', message: 'pg_dump of app failed', cause: 'connection reset' })).toBe(true);
  const denied = { code: 'PG_DUMP_FAILED', message: 'pg_dump of app failed', cause: 'permission denied for table t' };
  expect(mayPass(denied as never)).toBe(false);
});

describe('of what is not well after a run', () => {
  const passing = { code: 'PG_UNREACHABLE', message: 'away' } as const;
  const lasting = { code: 'PG_AUTH', message: 'refused' } as const;
  const failed = (error: typeof passing | typeof lasting) => makeResult({ status: 'failed', error });
  const base = { error: undefined, problems: [], copies: [] };
  test.each([
    ['nothing is wrong', { results: [makeResult()] }, 'none'],
    ['a server was away', { results: [makeResult(), failed(passing)] }, 'all'],
    ['another one refused the password', { results: [failed(lasting), failed(passing)] }, 'some'],
    ['only that', { results: [failed(lasting)] }, 'none'],
    ['a part could not be read', { results: [makeResult({ status: 'partial' }), failed(passing)] }, 'some'],
    ['a database was locked', { results: [makeResult({ status: 'partial', error: passing })] }, 'all'],
    ['the destination is away', { results: [], error: { code: 'DEST_UNREACHABLE', message: 'away' } }, 'all'],
    ['the agent is being stopped', { results: [], error: { code: 'INTERRUPTED', message: 'stop' } }, 'some'],
    ['another one fell', { results: [failed(passing), makeResult({ fell: true })] }, 'some'],
    ['a copy is behind too', { results: [failed(passing)], copies: [{ status: 'failed' }] }, 'some'],
    [
      'a label is wrong too',
      { results: [failed(passing)], problems: [{ severity: 'error', code: 'LABEL_INVALID' }] },
      'some',
    ],
    [
      'its container does not run',
      { results: [failed(passing)], problems: [{ severity: 'error', code: 'CONTAINER_STOPPED' }] },
      'all',
    ],
  ])('%s: may it pass by itself?', (_, part, share) => {
    const { error, ...report } = { ...makeReport(), ...base, ...part } as never as ReturnType<typeof makeReport>;
    expect(passingShare({ ...report, ...(error ? { error } : {}) })).toBe(share);
  });
});
