import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { beginTry, dueRetry } from '../../src/daemon/retries.ts';
import type { CopyReport } from '../../src/report/events.ts';
import { makeResult } from '../report/fixtures.ts';
import { RunBench } from '../run/run-bench.ts';

const SCHEDULE = '0 3 * * *';
const MINUTE = 60_000;

let bench: RunBench;
/** the errors of the copy, one for each run; it succeeds when there are none left */
let errors: NonNullable<CopyReport['error']>[];
/** the number of copies that were made */
let made: number;
let captured: number;

beforeEach(() => {
  bench = new RunBench();
  errors = [];
  made = 0;
  captured = 0;
});
afterEach(() => bench.remove());

const retryDeps = () => ({
  ...{ state: bench.state('a'), log: silentLog, now: () => bench.now, zone: 'UTC' },
  copies: ['s3://far/shop'],
});

async function copy(): Promise<CopyReport[]> {
  made++;
  const error = errors.shift();
  const report = { name: 's3://far/shop', snapshots: 0, objects: 0, bytes: 0 };
  const behindSince = bench.now.toISOString();
  await bench.state('a').saveCopies({ [report.name]: error ? { behindSince, error } : {} });
  return [error ? { ...report, status: 'failed', behindSince, error } : { ...report, status: 'ok' }];
}

/** Makes the scheduled run of a night. */
async function scheduled(over = {}) {
  const attempt = await beginTry(retryDeps(), [SCHEDULE]);
  const report = await bench.run('a', { copy, during: async () => void captured++, request: { attempt }, ...over });
  await attempt.ended(report);
  return report;
}

/** Makes the retry that is due after some minutes, if one is. */
async function again(minutes: number) {
  bench.later(minutes * MINUTE);
  const due = await dueRetry(retryDeps(), bench.plan);
  if (!due) return undefined;
  const { retry, ...what } = due;
  const attempt = await beginTry(retryDeps(), retry.schedules, retry);
  const during = async () => void captured++;
  const report = await bench.run('a', { copy, during, trigger: 'catch-up', request: { attempt, ...what } });
  await attempt.ended(report);
  return report;
}

const away = { code: 'DEST_UNREACHABLE', message: 's3://far/shop does not answer' } as const;

test('a copy that fails for a moment is made again in the same night, without another backup, and one report covers both', async () => {
  errors = [away];
  const first = await scheduled();
  expect(first).toMatchObject({ status: 'partial', retry: { quiet: true } });
  expect(await again(9)).toBeUndefined();
  const second = await again(1);
  expect(second).toMatchObject({
    ...{ status: 'ok', trigger: 'catch-up', snapshot: first.id, problems: [] },
    results: [{ name: 'config', status: 'ok', run: first.id }],
    copies: [{ status: 'ok' }],
  });
  expect(second).not.toHaveProperty('retry');
  expect({ made, captured, snapshots: await bench.ids() }).toEqual({ made: 2, captured: 1, snapshots: [first.id] });
  expect(await bench.state('a').retries()).toEqual([]);
  expect((await bench.state('a').results()).config).toMatchObject({ run: first.id, status: 'ok' });
});

test('a copy that stays away is tried twice more, and then reported', async () => {
  errors = [away, away, away, away];
  await scheduled();
  await again(10);
  expect(await again(20)).toMatchObject({ status: 'partial', copies: [{ status: 'failed', error: away }] });
  expect(bench.reports.map(({ retry }) => retry?.quiet)).toEqual([true, true, undefined]);
  expect(await again(60)).toBeUndefined();
  expect({ made, captured }).toEqual({ made: 3, captured: 1 });
});

test.each([
  ['that a wrong key keeps away', 'DEST_UNWRITABLE'],
  ['that made room for the next run', 'INTERRUPTED'],
] as const)('a copy %s is reported at once', async (_what, code) => {
  errors = [{ code, message: 's3://far/shop is behind' }];
  expect(await scheduled()).not.toHaveProperty('retry');
  expect(await again(10)).toBeUndefined();
});

test('a copy that a command has brought up to date meanwhile is only reported', async () => {
  errors = [away];
  await scheduled();
  await bench.state('a').saveCopies({ 's3://far/shop': {} });
  expect(await again(10)).toMatchObject({ status: 'ok', copies: [{ status: 'ok' }] });
  expect(captured).toBe(1);
});

test('a retry that cannot even begin keeps the results, and is repeated', async () => {
  errors = [away];
  const first = await scheduled();
  bench.later(10 * MINUTE);
  const due = await dueRetry(retryDeps(), bench.plan);
  const attempt = await beginTry(retryDeps(), [SCHEDULE], due?.retry);
  const request = { attempt, copiesOnly: true as const, only: () => false };
  const repository = () => Promise.reject(new LifeboatError('DEST_UNREACHABLE', 'away'));
  const report = await bench.run('a', { copy, repository, request });
  await attempt.ended(report);
  expect(report).toMatchObject({
    ...{ status: 'partial', snapshot: first.id, error: { code: 'DEST_UNREACHABLE' } },
    results: [{ status: 'ok', run: first.id }],
    retry: { quiet: true },
  });
  expect(await again(20)).toMatchObject({ status: 'ok', snapshot: first.id });
});

test('a run that waits for a copy alone is reported, although a run of another schedule copies everything meanwhile', async () => {
  errors = [away];
  const fell = { since: '20261119T030000Z-aaaaaa', why: ['rows fell by 60 %'] };
  const first = await scheduled({ fails: makeResult({ name: 'config', kind: 'files', bytes: 1, newBytes: 1, fell }) });
  expect(first.retry).toMatchObject({ quiet: true });
  bench.later(5 * MINUTE);
  const attempt = await beginTry(retryDeps(), ['5 3 * * *']);
  const other = { copiesOnly: true as const, only: () => false };
  await attempt.ended(await bench.run('a', { copy, request: { attempt, ...other } }));
  expect(await again(5)).toMatchObject({ status: 'ok', results: [{ name: 'config', fell, run: first.id }] });
  expect(captured).toBe(1);
});

test('a source that failed for good is reported at once, although a copy is tried again', async () => {
  errors = [away];
  const error = { code: 'TREE_UNREADABLE', message: 'permission denied' } as const;
  const first = await scheduled({
    fails: makeResult({ name: 'config', kind: 'files', bytes: 1, newBytes: 1, status: 'partial', error }),
  });
  expect(first).toMatchObject({ status: 'partial', retry: { quiet: false } });
  expect(await again(10)).toMatchObject({ status: 'partial', copies: [{ status: 'ok' }] });
});
