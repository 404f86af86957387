import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Run } from '../../src/backup/begin.ts';
import type { BackupDeps, BackupRequest } from '../../src/backup/context.ts';
import { type Ending, finish } from '../../src/backup/report.ts';
import { silentLog } from '../../src/base/log.ts';
import { beginTry } from '../../src/daemon/retries.ts';
import type { RunReport } from '../../src/report/events.ts';
import { openState } from '../../src/run/state.ts';
import { makeFailure, makeResult } from '../report/fixtures.ts';

const NOW = new Date('2026-11-20T03:00:00.000Z');
const SCHEDULE = '0 3 * * *';

/** Runs the tries of one night, one after the other. `told`: their reports. */
function startNight() {
  const directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-tries-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const state = openState(directory);
  const told: RunReport[] = [];
  const deps = {
    state,
    dispatcher: { emit: ({ report }: { report: RunReport }) => told.push(report), flush: async () => undefined },
    log: silentLog,
    now: () => NOW,
    nextRun: () => undefined,
    zone: 'UTC',
    copies: [],
    destination: '/backups',
  };
  const plan = {
    problems: [],
    sources: ['web.media', 'db.postgres'].map((name) => ({ name, kind: 'volume', schedule: SCHEDULE })),
  };
  const makeTry = async (id: string, sources: string[], ending: object) => {
    const [again] = await state.retries();
    const attempt = await beginTry(deps, [SCHEDULE], again);
    const start = { id, trigger: 'schedule', start: NOW.toISOString(), sources, project: 'shop' };
    const run = { start, plan, log: silentLog, tail: () => [], ended: () => NOW } as unknown as Run;
    const request = { signal: new AbortController().signal, attempt } as unknown as BackupRequest;
    await attempt.ended(await finish(deps as unknown as BackupDeps, request, run, ending as Ending));
  };
  return { told, makeTry };
}

const AWAY = { status: 'failed', results: [], problems: [], error: { code: 'DEST_UNREACHABLE', message: 'away' } };

test('the report of the last try names a failed source if all tries after the first fail as a whole', async () => {
  const { told, makeTry } = startNight();
  const db = { ...makeFailure().error, code: 'PG_UNREACHABLE' as const, message: 'away' };
  const results = [makeResult(), makeFailure({ error: db })];
  await makeTry('t1', ['web.media', 'db.postgres'], { status: 'partial', results, problems: [], snapshot: 't1' });
  await makeTry('t2', ['db.postgres'], AWAY);
  await makeTry('t3', ['db.postgres'], AWAY);
  expect(told.map(({ retry }) => retry?.quiet)).toEqual([true, true, undefined]);
  expect(told[2]).toMatchObject({
    status: 'partial',
    error: AWAY.error,
    results: [
      { name: 'web.media', status: 'ok', run: 't1' },
      { name: 'db.postgres', status: 'failed', run: 't1', error: { code: 'PG_UNREACHABLE' } },
    ],
  });
});

test('a vanished source stays in the report while later tries fail as a whole, until one of them has planned', async () => {
  const { told, makeTry } = startNight();
  const vanished = makeFailure({ name: 'old.media', error: { code: 'SOURCE_VANISHED', message: 'gone' } });
  const db = makeFailure({ error: { code: 'PG_UNREACHABLE', message: 'away' } });
  const results = [makeResult(), db, vanished];
  await makeTry('t1', ['web.media', 'db.postgres'], { status: 'partial', results, problems: [], snapshot: 't1' });
  await makeTry('t2', ['db.postgres'], AWAY);
  const names = (report: RunReport | undefined) =>
    report?.results.map(({ name, status }) => `${name} ${status}`).sort();
  expect(names(told[1])).toEqual(['db.postgres failed', 'old.media failed', 'web.media ok']);
  const stored = [makeResult({ name: 'db.postgres', kind: 'postgres' })];
  await makeTry('t3', ['db.postgres'], { status: 'ok', results: stored, problems: [], snapshot: 't3' });
  expect(names(told[2])).toEqual(['db.postgres ok', 'web.media ok']);
});
