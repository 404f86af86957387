import { expect, test } from 'vitest';
import type { Run } from '../../src/backup/begin.ts';
import type { BackupDeps, BackupRequest } from '../../src/backup/context.ts';
import { type Ending, finish } from '../../src/backup/report.ts';
import { silentLog } from '../../src/base/log.ts';

const AT = '2026-11-20T03:00:00.000Z';

test.each([
  ['manual', ['db.postgres']],
  ['schedule', []],
])('the report of a %s run of other sources names sources with a pending retry: %j', async (trigger, others) => {
  const failed = { at: AT, run: 'r0', status: 'failed', error: { code: 'PG_UNREACHABLE', message: 'away' } };
  const state = {
    lastRun: async () => undefined,
    results: async () => ({ 'db.postgres': failed }),
    accepted: async () => ({}),
    retries: async () => [{ schedules: ['@daily'] }],
    saveLastRun: async () => undefined,
  };
  const dispatcher = { emit: () => undefined, flush: async () => undefined };
  const deps = {
    state,
    dispatcher,
    now: () => new Date(AT),
    nextRun: () => undefined,
    zone: 'UTC',
    destination: 'main',
  };
  const plan = {
    problems: [],
    sources: [
      { name: 'db.postgres', kind: 'postgres', schedule: '@daily' },
      { name: 'web.media', kind: 'volume', schedule: '@weekly' },
    ],
  };
  const start = { id: 'r1', trigger, start: AT, sources: ['web.media'], project: 'shop' };
  const run = { start, plan, log: silentLog, tail: () => [], ended: () => new Date(AT) } as unknown as Run;
  const ending = { status: 'ok', results: [{ name: 'web.media', status: 'ok', warnings: [] }], problems: [] };
  const request = { signal: new AbortController().signal } as BackupRequest;
  const report = await finish(deps as unknown as BackupDeps, request, run, ending as unknown as Ending);
  expect((report.others ?? []).map(({ name }) => name)).toEqual(others);
});
