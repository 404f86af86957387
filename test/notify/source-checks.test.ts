import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { createHealthchecks } from '../../src/notify/healthchecks.ts';
import { createDrillCheck, createSourceChecks, createWalCheck } from '../../src/notify/source-checks.ts';
import type { Alarm } from '../../src/report/alarm.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';
import type { RunReport } from '../../src/report/events.ts';
import { type Receiver, startReceiver } from '../harness/receiver.ts';
import { makeFailure, makeReport, makeResult, NOW } from '../report/fixtures.ts';

const { signal } = new AbortController();
let receiver: Receiver;
beforeEach(async () => {
  receiver = await startReceiver();
});
afterEach(() => receiver.close());
const target = (name: string) => ({ url: new URL(`${receiver.url}/${name}`) });
const paths = () => receiver.requests.map(({ path }) => path).sort();

describe('a check for each source', () => {
  const checks = (...sources: string[]) => {
    const targetOf = (source: string) => (sources.includes(source) ? target(source) : undefined);
    return createSourceChecks({ project: 'shop', targetOf, named: sources });
  };
  const run = (report: RunReport, ...sources: string[]) =>
    checks(...sources).handle({ type: 'run-finished', report }, signal);

  test('is pinged by its own result, with the words about this source alone', async () => {
    const results = [makeFailure(), makeResult(), makeResult({ name: 'other.files' })];
    await run(makeReport({ status: 'partial', results }), 'db.postgres', 'web.media');
    expect(paths()).toEqual(['/db.postgres/fail', '/web.media']);
    const [failed] = receiver.requests.filter(({ path }) => path.endsWith('/fail'));
    expect(failed?.body).toContain('PG_RESTARTED');
    expect(failed?.body).not.toContain('web.media');
    expect(failed?.query).toEqual({ rid: '8c5bd0a4-3c4d-4c1e-9f59-0c3f5f1a2b3c' });
  });

  test('fails with a run that fails as a whole, and leaves sources alone that the run does not cover', async () => {
    const error = { code: 'DEST_UNREACHABLE', message: 'no answer' } as const;
    const sources = ['db.postgres'];
    await run(makeReport({ status: 'failed', error, sources, results: [] }), 'db.postgres', 'web.media');
    expect(paths()).toEqual(['/db.postgres/fail']);
  });

  test('gets a log entry for a failure that is tried again', async () => {
    const retry = { at: NOW.toISOString(), quiet: true };
    await run(
      makeReport({ status: 'partial', results: [makeFailure(), makeResult()], retry }),
      'db.postgres',
      'web.media',
    );
    expect(paths()).toEqual(['/db.postgres/log', '/web.media']);
  });

  test('is tested by a log entry, and one that fails keeps no other from its ping', async () => {
    expect(await checks('a', 'b').test(signal)).toBe('2 checks accepted a log entry, which changes no status');
    expect(paths()).toEqual(['/a/log', '/b/log']);
    receiver.requests.length = 0;
    receiver.behave([{ status: 404 }, { status: 200 }]);
    await expect(checks('a', 'b').test(signal)).rejects.toMatchObject({ code: 'NOTIFY_FAILED' });
    expect(paths()).toEqual(['/a/log', '/b/log']);
  });
});

test('the check of the write-ahead log is up while all of it is received', async () => {
  const check = createWalCheck({ target: target('wal'), project: 'shop' });
  const alarm = (topic: Alarm['topic'], over?: true): Alarm => ({
    ...{ project: 'shop', topic, source: 'db.postgres', at: NOW.toISOString(), ...(over ? { over } : {}) },
    error: { code: 'WAL_GAP', message: 'a segment is missing' },
  });
  const hear = (...alarms: Alarm[]) => check.handle({ type: 'alarms', alarms, open: [] }, signal);
  await check.handle({ type: 'wal-seen', sources: ['db.postgres'], failing: [] }, signal);
  await hear(alarm('rpo'), alarm('wal', true));
  await hear(alarm('wal-gap'));
  await check.handle({ type: 'wal-seen', sources: ['db.postgres'], failing: ['db.postgres'] }, signal);
  expect(receiver.requests.map(({ path }) => path)).toEqual(['/wal', '/wal/fail', '/wal/fail']);
});

test.each<[DrillReport['status'], string]>([
  ['ok', '/drill'],
  ['failed', '/drill/fail'],
  ['interrupted', '/drill/log'],
  ['unproven', '/drill/log'],
])('the check of drills hears of one that is %s, and the check of backups does not', async (status, path) => {
  const report: DrillReport = {
    ...{ id: 'd1', project: 'shop', trigger: 'schedule', start: NOW.toISOString(), end: NOW.toISOString(), status },
    ...{ agentVersion: '1', results: [], unproven: [] },
  };
  const all = [
    createDrillCheck({ target: target('drill'), project: 'shop' }),
    createHealthchecks({ target: target('main'), project: 'shop', withoutDrills: true, log: silentLog }),
  ];
  for (const one of all) await one.handle({ type: 'drill-finished', report }, signal);
  expect(paths()).toEqual([path]);
});
