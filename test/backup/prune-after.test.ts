import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { backup } from '../../src/backup/backup.ts';
import type { BackupDeps, BackupRequest } from '../../src/backup/context.ts';
import type { Captured } from '../../src/backup/outcome.ts';
import { errorInfo, LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Plan, Problem } from '../../src/plan/model.ts';
import type { ClockWatch } from '../../src/prune/clock-jump.ts';
import { createDispatcher } from '../../src/report/dispatch.ts';
import type { CopyReport, Pruned } from '../../src/report/events.ts';
import { plainPaint } from '../../src/report/paint.ts';
import { retentionLines } from '../../src/report/prune-text.ts';
import { renderReport } from '../../src/report/text.ts';
import { openState } from '../../src/run/state.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { makeFailure, makeResult } from '../report/fixtures.ts';
import { scratchBase } from '../store/helpers.ts';

/** The steps after the commit: which runs copy snapshots and prune, and how they handle failures. */

let directory: string;
let results: Captured['report'][];
let problems: Problem[];
let pruned: number;
let held: Pruned['held'];
let swept: { onlyWal: boolean }[];
let error: LifeboatError | undefined;
let copied: { prune: boolean }[];
let copy: (signal: AbortSignal, clockJump?: ClockWatch) => Promise<CopyReport>;
let committed: { manifest: Manifest; hash: string }[];
let nextRun: Date | undefined;
let clock: string;
let clockAfterCapture: string;
let whenWanted: (() => AbortSignal) | undefined;
beforeEach(() => {
  directory = mkdtempSync(join(scratchBase, 'lifeboat-run-'));
  results = [makeResult({ name: 'a' }), makeResult({ name: 'b' })];
  problems = [];
  pruned = 0;
  held = undefined;
  swept = [];
  error = undefined;
  copied = [];
  committed = [];
  copy = async () => ({ name: '/nas', status: 'ok', snapshots: 1, objects: 2, bytes: 3 });
  nextRun = undefined;
  clock = clockAfterCapture = '2026-11-20T03:00:00Z';
  whenWanted = undefined;
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function run(request: Partial<BackupRequest>) {
  const sources = ['a', 'b'].map((name) => ({ name, kind: 'files', schedule: '0 3 * * *', root: '/config' }));
  const repository = {
    destination: { name: '/backups', async *list() {} },
    keys: {},
    snapshots: async () => ({ snapshots: [...committed], damaged: [] }),
    commit: async (manifest: Manifest) => {
      committed.push({ manifest, hash: '' });
      return { manifest, hash: '' };
    },
    removeObjects: async () => ({ removed: [], refused: [] }),
  } as unknown as Repository;
  const deps: BackupDeps = {
    ...{ project: 'shop', agentVersion: '0', destination: '/backups', agentId: '', zone: 'UTC', log: silentLog },
    lock: async () => ({ release: async () => undefined, ...(whenWanted ? { whenWanted } : {}) }),
    journals: join(directory, 'journals'),
    spool: join(directory, 'runs'),
    state: openState(join(directory, 'state')),
    dispatcher: createDispatcher([], { log: silentLog }),
    now: () => new Date(clock),
    recover: async () => undefined,
    clear: async () => undefined,
    sweepTemporary: async (options) => void swept.push(options),
    plan: async () => ({ project: 'shop', problems, sources }) as unknown as Plan,
    repository: async () => repository,
    look: async () => undefined,
    lease: async () => ({ fence: async () => undefined, release: async () => undefined }),
    holdDeps: () => expect.fail('nothing is held'),
    capturer: () => ({
      capture: async ({ name }) => {
        const report = results.find((one) => one.name === name) as Captured['report'];
        const { fell: _, ...entry } = report;
        clock = clockAfterCapture;
        return { report, entry: { ...entry, skipped: {} } };
      },
      failed: () => expect.fail('not asked for'),
    }),
    nextRun: () => nextRun,
    highestCopied: async () => ({ taken: 0, unknown: [] }),
    copy: async (_plan, _repository, { prune, signal }) => {
      copied.push({ prune: prune !== undefined });
      return [await copy(signal, prune?.clockJump)];
    },
    prune: async () => {
      pruned++;
      if (error) throw error;
      return { snapshots: 2, objects: 1, bytes: 10, ...(held ? { held } : {}) };
    },
  };
  const all: BackupRequest = { trigger: 'schedule', signal: new AbortController().signal };
  return backup(deps, { ...all, ...request });
}

test('a scheduled run prunes, even of one schedule among several, and so does a manual run of all sources', async () => {
  expect(await run({})).toMatchObject({ status: 'ok', pruned: { snapshots: 2, objects: 1, bytes: 10 } });
  await run({ only: ({ name }) => name === 'a' });
  await run({ trigger: 'catch-up' });
  await run({ trigger: 'manual' });
  expect(pruned).toBe(4);
});

test('a run that is ok removes only the WAL that a crash left, any other one all leftovers', async () => {
  await run({});
  results = [makeResult({ name: 'a' }), makeFailure({ name: 'b' })];
  await run({});
  expect(swept).toEqual([{ onlyWal: true }, { onlyWal: false }]);
});

test('a failed source or another problem does not prevent pruning, and the report names what is held back', async () => {
  held = { snapshots: 4, sources: ['b'] };
  results = [makeResult({ name: 'a' }), makeFailure({ name: 'b' })];
  const partial = await run({});
  expect(partial).toMatchObject({ status: 'partial', pruned: { snapshots: 2, held } });
  const text = renderReport(partial, { now: new Date(partial.end) });
  expect(text).toContain('pruned 2 old snapshots; 10 B freed; 4 old snapshots kept because b failed last');
  expect(retentionLines(partial, plainPaint)).toEqual(['  retention: 4 old snapshots kept because b failed last']);
  results = [makeResult({ name: 'a' }), makeResult({ name: 'b' })];
  held = undefined;
  problems = [{ severity: 'error', code: 'LABEL_UNKNOWN', subject: 'worker', message: 'unknown label' }];
  const typo = await run({});
  expect(typo).toMatchObject({ status: 'partial', pruned: { snapshots: 2 } });
  expect(retentionLines(typo, plainPaint)).toEqual([]);
  expect(pruned).toBe(2);
  expect(copied.map(({ prune }) => prune)).toEqual([true, true]);
});

test('a run of some sources, a safety snapshot, or a run that stored nothing does not prune', async () => {
  await run({ trigger: 'manual', only: ({ name }) => name === 'a' });
  await run({ trigger: 'safety', only: ({ name }) => name === 'a' });
  results = [makeFailure({ name: 'a' }), makeFailure({ name: 'b' })];
  // Not by its status: another test file in this process registers that word as a secret.
  const failed = await run({});
  expect(failed.snapshot).toBeUndefined();
  expect(retentionLines(failed, plainPaint)).toEqual([expect.stringContaining('nothing was removed')]);
  expect(pruned).toBe(0);
});

test.each([
  ['ahead', '2026-12-10T03:00:00Z', 'ahead by 20d'],
  ['ahead by a little more than an hour', '2026-11-20T04:10:00Z', 'ahead by 1h 10m'],
  ['back by a year', '2025-11-20T03:00:00Z', 'back by 365d'],
])('a run during which the clock is set prunes nothing, here and in the copies: %s', async (_, time, message) => {
  clockAfterCapture = time;
  const report = await run({});
  expect(report).toMatchObject({ status: 'ok', problems: [{ code: 'CLOCK_JUMPED', subject: 'prune' }] });
  expect(report.problems[0]?.message).toContain(message);
  expect(retentionLines(report, plainPaint)).toEqual([expect.stringContaining('the clock was set')]);
  expect({ pruned, copied }).toEqual({ pruned: 0, copied: [{ prune: false }] });
  // The report and the manifest end after their start, and last as long as the run really did.
  for (const { start, end } of [report, committed[0]?.manifest as Manifest]) {
    const took = Date.parse(end) - Date.parse(start);
    expect(took).toBeGreaterThanOrEqual(0);
    expect(took).toBeLessThan(60_000);
  }
});

test('a clock that is set while the copies are made stops their prune and that of the destination', async () => {
  copy = async (_signal, clockJump) => {
    const set = () => clockJump?.()?.code;
    expect(set()).toBeUndefined();
    clock = '2026-12-10T03:00:00Z';
    expect(set()).toBe('CLOCK_JUMPED');
    return { name: '/nas', status: 'ok', snapshots: 1, objects: 2, bytes: 3 };
  };
  expect(await run({})).toMatchObject({ status: 'ok', problems: [{ code: 'CLOCK_JUMPED', subject: 'prune' }] });
  expect({ pruned, copied }).toEqual({ pruned: 0, copied: [{ prune: true }] });
});

test('a clock that is corrected by minutes during a run does not prevent pruning', async () => {
  clockAfterCapture = '2026-11-20T03:40:00Z';
  expect(await run({})).toMatchObject({ problems: [], pruned: { snapshots: 2 } });
});

test('a failure to prune is reported, and the run still succeeds', async () => {
  error = new LifeboatError('CLOCK_JUMPED', 'the newest snapshot is of 2027', { hint: 'Set the clock.' });
  const report = await run({});
  expect(report).toMatchObject({
    status: 'ok',
    snapshot: report.id,
    problems: [
      {
        severity: 'warning',
        code: 'CLOCK_JUMPED',
        message: 'old snapshots could not be removed: the newest snapshot is of 2027',
        hint: 'Set the clock.',
      },
    ],
  });
  expect(report.pruned).toBeUndefined();
  expect(retentionLines(report, plainPaint)).toEqual([expect.stringContaining('of 2027 (CLOCK_JUMPED)')]);
});

test('every run except a safety snapshot is copied; only a run that prunes the destination prunes copies too', async () => {
  expect((await run({})).copies).toMatchObject([{ name: '/nas', snapshots: 1 }]);
  await run({ trigger: 'manual', only: ({ name }) => name === 'a' });
  results = [makeFailure({ name: 'a' }), makeFailure({ name: 'b' })];
  // Copies may still lack earlier snapshots.
  expect((await run({})).copies).toHaveLength(1);
  expect(copied).toEqual([{ prune: true }, { prune: false }, { prune: false }]);
  expect((await run({ trigger: 'safety' })).copies).toBeUndefined();
  expect(copied).toHaveLength(3);
});

test('a failed copy makes the run partly failed, and does not prevent pruning at the destination', async () => {
  copy = async () => ({ name: '/nas', status: 'failed', snapshots: 0, objects: 0, bytes: 0 });
  const report = await run({});
  expect(report).toMatchObject({ status: 'partial', pruned: { snapshots: 2 } });
  expect(report.snapshot).toBe(report.id);
  results = [makeFailure({ name: 'a' }), makeFailure({ name: 'b' })];
  expect((await run({})).snapshot).toBeUndefined();
});

test('a destination that is a copy too is not pruned, because the retention of the copy may be longer', async () => {
  copy = async () => ({ name: '/nas', status: 'failed', snapshots: 0, objects: 0, bytes: 0, isDestination: true });
  expect((await run({})).pruned).toBeUndefined();
  expect(pruned).toBe(0);
});

test('a copy stops for the next run, and for a command that waits for this run to end', async () => {
  const untilAborted = async (signal: AbortSignal): Promise<CopyReport> => {
    await once(signal, 'abort');
    return { name: '/nas', status: 'failed', snapshots: 0, objects: 0, bytes: 0, error: errorInfo(signal.reason) };
  };
  copy = untilAborted;
  const asked = new AbortController();
  whenWanted = () => {
    setImmediate(() => asked.abort(new LifeboatError('INTERRUPTED', 'another command waits')));
    return asked.signal;
  };
  expect((await run({})).copies?.[0]?.error).toMatchObject({ message: 'another command waits' });
  whenWanted = undefined;
  nextRun = new Date('2026-11-20T03:00:00.050Z');
  const [report] = (await run({})).copies ?? [];
  expect(report?.error).toMatchObject({ code: 'INTERRUPTED', message: expect.stringContaining('next run is due') });
});
