import { describe, expect, test } from 'vitest';
import { failedSources } from '../../src/notify/policy.ts';
import type { Problem } from '../../src/plan/model.ts';
import type { RunReport } from '../../src/report/events.ts';
import { headline, renderReport } from '../../src/report/text.ts';
import { earlierOf, withEarlier, withoutAccepted } from '../../src/report/tries.ts';
import { resultsOf } from '../../src/run/source-status.ts';
import { makeFailure, makeReport, makeResult, NOW } from './fixtures.ts';

const FIRST = '20261120T030000Z-aaaaaa';
const LAST = '20261120T031000Z-bbbbbb';
const web = makeResult({ warnings: ['2 files kept changing'] });
const db = makeFailure();
const dbOk = makeResult({ name: 'db.postgres', kind: 'postgres' });
const hook: Problem = { severity: 'error', code: 'HOOK_FAILED', subject: 'shop-web-1', message: 'post failed' };
const label: Problem = { severity: 'error', code: 'LABEL_INVALID', subject: 'web', message: 'wrong' };
const behind = { name: 's3://b', status: 'failed' as const, snapshots: 0, objects: 0, bytes: 0 };

const first = (over: Partial<RunReport> = {}) =>
  makeReport({
    id: FIRST,
    snapshot: FIRST,
    status: 'partial',
    results: [web, db],
    sources: ['web.media', 'db.postgres'],
    ...over,
  });
/** A retry of only the database. */
function retry(over: Partial<RunReport> = {}): RunReport {
  const { snapshot: _, ...report } = makeReport({ id: LAST, sources: ['db.postgres'], results: [dbOk], ...over });
  return over.status === 'failed' ? report : { ...report, snapshot: LAST };
}
const known = {
  'web.media': { run: FIRST, status: 'ok' as const },
  'db.postgres': { run: FIRST, status: 'failed' as const },
};
const whole = (before: RunReport, last: RunReport, planned: Problem[] = []) =>
  withEarlier(last, earlierOf(before, planned), { results: known });

describe('the report of the last try', () => {
  test('includes sources that only an earlier try had, with their warnings', () => {
    const report = whole(first(), retry());
    expect(report).toMatchObject({ status: 'ok', snapshot: LAST });
    expect(report.results.map(({ name, status, run }) => [name, status, run])).toEqual([
      ['web.media', 'ok', FIRST],
      ['db.postgres', 'ok', undefined],
    ]);
    const text = renderReport(report, { now: NOW });
    expect(text).toContain('warning: 2 files kept changing');
    expect(text).toContain(`in an earlier try: run ${FIRST}`);
  });

  test('is partly failed, not failed, if an earlier try stored something', () => {
    const report = whole(first(), retry({ status: 'failed', results: [db] }));
    expect(report).toMatchObject({ status: 'partial', snapshot: FIRST });
    expect(headline(report)).toBe('shop: backup partly failed (1 of 2 sources)');
  });

  test('is partly failed if the last try could not even begin', () => {
    const error = { code: 'DEST_UNREACHABLE', message: 'away' } as const;
    const report = whole(first(), retry({ status: 'failed', results: [], error }));
    expect(report).toMatchObject({
      status: 'partial',
      error,
      results: [{ name: 'web.media' }, { name: 'db.postgres' }],
    });
  });

  test('is failed if no try stored anything', () => {
    const before = first({ status: 'failed', results: [db], sources: ['db.postgres'] });
    expect(whole(before, retry({ status: 'failed', results: [db] })).status).toBe('failed');
  });

  test.each<[string, Partial<RunReport>, Problem[], RunReport['status']]>([
    ['a source stays partly stored', { results: [{ ...web, status: 'partial' }, db] }, [], 'partial'],
    ['a hook failed', { problems: [hook] }, [], 'partial'],
    ['a label was wrong, and is corrected', { problems: [label] }, [label], 'ok'],
    ['a copy was behind, and no later try had to copy', { copies: [behind] }, [], 'partial'],
  ])('if in the first try %s', (_, over, planned, status) => {
    expect(whole(first(over), retry(), planned).status).toBe(status);
  });

  test('has each problem once, and the newest state of the copies', () => {
    const last = retry({ problems: [hook], copies: [{ ...behind, status: 'ok' }], status: 'partial' });
    const report = whole(first({ problems: [hook], copies: [behind] }), last);
    expect(report.problems).toEqual([hook]);
    expect(report.copies).toMatchObject([{ status: 'ok' }]);
  });

  test('leaves out sources that another run has backed up since', () => {
    const since = { ...known, 'web.media': { run: '20261120T030500Z-cccccc', status: 'ok' as const } };
    const { results } = withEarlier(retry(), earlierOf(first(), []), { results: since });
    expect(results.map(({ name }) => name)).toEqual(['db.postgres']);
  });

  describe('keeps a failure', () => {
    const away = { code: 'DEST_UNREACHABLE', message: 'away' } as const;
    const failed = (id: string) => retry({ id, status: 'failed', results: [], error: away });
    const t3 = '20261120T033000Z-dddddd';
    const before = earlierOf(first(), []);
    const second = withEarlier(failed(LAST), before, { results: known });
    const earlier = earlierOf(second, [], before);
    const now = { ...known, 'db.postgres': { run: LAST, status: 'failed' as const } };
    const names = ({ results }: RunReport) => results.map(({ name, status, run }) => [name, status, run]);
    const both = [
      ['web.media', 'ok', FIRST],
      ['db.postgres', 'failed', FIRST],
    ];

    test('that two tries failed to replace, as a whole', () => {
      const third = withEarlier(failed(t3), earlier, { results: now });
      expect(names(third)).toEqual(both);
      expect(third.status).toBe('partial');
      expect(failedSources(third)).toBe(failedSources(first()));
      expect(renderReport(third, { now: NOW })).toContain('db.postgres');
    });

    test('also if the last try failed before it knew its sources', () => {
      expect(names(withEarlier({ ...failed(t3), sources: [] }, earlier, { results: now }))).toEqual(both);
    });

    test.each(['a try that died', 'a run by hand'])('that the last try had to replace, and that %s had too', () => {
      const results = { ...now, 'db.postgres': { run: 'other', status: 'failed' as const } };
      expect(names(withEarlier(failed(t3), earlier, { results }))).toEqual(both);
    });

    test('but not a stored source if a manual run has failed since', () => {
      const results = { ...now, 'web.media': { run: 'other', status: 'failed' as const } };
      const last = { ...failed(t3), sources: ['web.media', 'db.postgres'] };
      expect(names(withEarlier(last, earlier, { results }))).toEqual(both.slice(1));
    });

    test('but not if another run has backed up the source since', () => {
      const results = { ...now, 'db.postgres': { run: 'other', status: 'ok' as const } };
      expect(names(withEarlier(failed(t3), earlier, { results }))).toEqual(both.slice(0, 1));
    });

    test('but not if another run has a newer one, and the last try did not include the source', () => {
      const results = { ...now, 'db.postgres': { run: 'other', status: 'failed' as const } };
      const last = { ...failed(t3), sources: ['cache.postgres'] };
      expect(names(withEarlier(last, earlier, { results }))).toEqual(both.slice(0, 1));
    });
  });

  test('leaves out sources that are no longer planned', () => {
    const { results } = withEarlier(retry(), earlierOf(first(), []), { results: known, planned: ['db.postgres'] });
    expect(results.map(({ name }) => name)).toEqual(['db.postgres']);
  });

  test('covers three tries, each result with its own run', () => {
    const cache = makeFailure({ name: 'cache.postgres' });
    const second = whole(first({ results: [web, db, cache] }), retry({ results: [dbOk, cache], status: 'partial' }));
    const third = retry({ id: '20261120T033000Z-dddddd', results: [{ ...cache, status: 'ok' }] });
    const now = {
      ...known,
      'db.postgres': { run: LAST, status: 'ok' as const },
      'cache.postgres': { run: LAST, status: 'failed' as const },
    };
    const { results, status } = withEarlier(third, earlierOf(second, []), { results: now });
    expect(status).toBe('ok');
    expect(results.map(({ name, run }) => [name, run])).toEqual([
      ['web.media', FIRST],
      ['db.postgres', LAST],
      ['cache.postgres', undefined],
    ]);
  });

  test('records results only of its own sources', () => {
    expect(Object.keys(resultsOf(retry()))).toEqual(['db.postgres']);
  });
});

describe('a run whose only source was accepted', () => {
  const gone = makeFailure({ error: { code: 'SOURCE_VANISHED', message: 'gone' } });
  const accepted = { [gone.name]: { at: '2026-11-20T08:00:00.000Z', sequence: 9 } };
  test.each<[string, Partial<RunReport>, RunReport['status']]>([
    ['is ok', {}, 'ok'],
    ['is partly failed while a problem is an error', { problems: [hook] }, 'partial'],
    ['is partly failed while a copy is behind', { copies: [behind] }, 'partial'],
    ['stays failed if it failed as a whole', { error: { code: 'DEST_FULL', message: 'full' } }, 'failed'],
  ])('%s', (_, over, status) => {
    const report = makeReport({ status: 'failed', results: [gone], sources: [], ...over });
    expect(withoutAccepted(report, accepted)).toMatchObject({ status, results: [] });
  });

  test('is compared by the chain, not by a clock', () => {
    const by = (sequence: number, at: string) =>
      withoutAccepted(makeReport({ status: 'failed', results: [gone], after: 8 }), { [gone.name]: { at, sequence } });
    expect(by(7, '2027-11-20T08:00:00.000Z').results).toHaveLength(1);
    expect(by(8, '2026-01-20T08:00:00.000Z').results).toEqual([]);
  });
});

test('a retry whose results other runs have replaced is no failure', () => {
  const since = { results: { 'web.media': { run: 'other', status: 'ok' as const } } };
  const copies = [{ ...behind, status: 'ok' as const }];
  const last = retry({ results: [], sources: [], copies });
  expect(withEarlier(last, earlierOf(first({ results: [web] }), []), since)).toMatchObject({
    status: 'ok',
    results: [],
  });
});
