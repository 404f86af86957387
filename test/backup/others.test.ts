import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import type { Run } from '../../src/backup/begin.ts';
import type { BackupDeps, BackupRequest } from '../../src/backup/context.ts';
import { type Ending, finish } from '../../src/backup/report.ts';
import { silentLog } from '../../src/base/log.ts';
import type { PlannedSource } from '../../src/plan/model.ts';
import { stoppedDatabase } from '../../src/plan/postgres.ts';
import { renderReport } from '../../src/report/text.ts';
import { rememberPlaces } from '../../src/run/remembered.ts';
import { makeFailure, makeResult } from '../report/fixtures.ts';
import { scratchBase } from '../store/helpers.ts';

const AT = '2026-11-20T03:00:00.000Z';

const SOURCES = [
  { name: 'db.postgres', kind: 'postgres', schedule: '@daily' },
  { name: 'web.media', kind: 'volume', schedule: '@weekly' },
];

interface Case {
  /** the snapshots are known only by looking */
  look?: () => Promise<unknown>;
  trigger: string;
  results?: object;
  retries?: object[];
  plan?: object;
  snapshots?: object[];
  ending?: object;
  /** manifests that cannot be used */
  unusable?: object[];
  /** keys of objects that a check found damaged */
  damaged?: string[];
  /** of the state */
  directory?: string;
}

/** Reports a run of `web.media` alone. */
function report({
  trigger,
  results = {},
  retries = [],
  plan = {},
  snapshots = [],
  ending = {},
  look,
  directory,
  unusable = [],
  damaged = [],
}: Case) {
  const state = {
    directory,
    damaged: async () => damaged,
    lastRun: async () => undefined,
    results: async () => results,
    accepted: async () => ({}),
    retries: async () => retries,
    saveLastRun: async () => undefined,
  };
  const dispatcher = { emit: () => undefined, flush: async () => undefined };
  const deps = {
    ...{ state, dispatcher, now: () => new Date(AT), nextRun: () => undefined, zone: 'UTC', destination: 'main', look },
  };
  const start = { id: 'r1', trigger, start: AT, sources: ['web.media'], project: 'shop' };
  const prepared = { list: { snapshots: snapshots.map((manifest) => ({ manifest })), damaged: unusable } };
  const run = {
    ...{ start, plan: { problems: [], sources: SOURCES, ...plan }, ...(look ? {} : { prepared }) },
    ...{ log: silentLog, tail: () => [], ended: () => new Date(AT) },
  } as unknown as Run;
  const request = { signal: new AbortController().signal } as BackupRequest;
  const ended = { status: 'ok', results: [makeResult()], problems: [], ...ending };
  return finish(deps as unknown as BackupDeps, request, run, ended as unknown as Ending);
}

test.each([
  ['manual', ['db.postgres']],
  ['schedule', []],
])('the report of a %s run of other sources names sources with a pending retry: %j', async (trigger, others) => {
  const failed = { at: AT, run: 'r0', status: 'failed', error: { code: 'PG_UNREACHABLE', message: 'away' } };
  const found = await report({ trigger, results: { 'db.postgres': failed }, retries: [{ schedules: ['@daily'] }] });
  expect((found.others ?? []).map(({ name }) => name)).toEqual(others);
});

describe('a stopped database is one trouble', () => {
  const stopped = { container: 'shop-db-1', start: 'docker compose start db' };
  const error = stoppedDatabase(stopped);
  const problem = { severity: 'error', subject: 'db', ...error };
  const plan = { sources: SOURCES.slice(1), problems: [problem], stopped: { 'db.postgres': stopped } };
  const sources = { 'db.postgres': { kind: 'postgres', status: 'ok', bytes: 1, files: 1, packs: [] } };
  const snapshots = [{ id: '20261119T030000Z-aaaaaa', sequence: 1, end: '2026-11-19T03:00:00.000Z', sources }];

  test('of a run of all sources', async () => {
    const failed = { name: 'db.postgres', status: 'failed', warnings: [], error };
    const { results, problems, others } = await report({
      ...{ trigger: 'schedule', plan, snapshots },
      ending: { status: 'partial', results: [failed], problems: [problem] },
    });
    expect({ problems, others }).toEqual({ problems: [], others: undefined });
    expect(results[0]?.error?.hint).toContain('`docker compose start db`');
  });

  test('of a run of other sources, which does not call it gone', async () => {
    const found = await report({
      trigger: 'manual',
      plan,
      snapshots,
      ending: { status: 'partial', problems: [problem] },
    });
    expect(found.problems).toEqual([]);
    const text = renderReport(found, { now: new Date(AT) });
    expect(text).toMatch(/! db\.postgres .*: it cannot be backed up: container shop-db-1 is not running/);
    expect(text).toContain('    hint: Start it with `docker compose start db`');
    expect(text).not.toContain('SOURCE_VANISHED');
  });

  test('of a project that was never backed up', async () => {
    const found = await report({ trigger: 'manual', plan, ending: { status: 'partial', problems: [problem] } });
    expect(found.problems).toMatchObject([{ code: 'CONTAINER_STOPPED' }]);
  });
});

describe('a run that failed before it read any source', () => {
  const sources = { 'web.media': { kind: 'volume', status: 'ok', bytes: 1, files: 1, packs: [] } };
  const manifest = { id: '20261119T030000Z-aaaaaa', sequence: 1, end: '2026-11-19T03:00:00.000Z', sources };
  const list = { snapshots: [{ manifest }], damaged: [] };
  const failed = (code: string) => ({ status: 'failed', results: [], error: { code, message: 'no room' } });
  const reported = (look: () => Promise<unknown>, code = 'DEST_FULL') =>
    report({ trigger: 'manual', ending: failed(code), look });

  test('says which snapshot is safe, although it has no lease', async () => {
    const { safe } = await reported(async () => ({ snapshots: async () => list }));
    expect(safe).toEqual([{ name: 'web.media', lastGood: { snapshot: manifest.id, at: manifest.end } }]);
  });

  test('claims nothing if the destination cannot be read, and does not ask one that is away', async () => {
    expect((await reported(async () => undefined)).safe).toBeUndefined();
    expect((await reported(async () => Promise.reject(new Error('away')))).safe).toBeUndefined();
    const asked = vi.fn(async () => ({ snapshots: async () => list }));
    expect((await reported(asked, 'DEST_UNREACHABLE')).safe).toBeUndefined();
    expect(asked).not.toHaveBeenCalled();
  });
});

describe('a source that vanished after an unrelated failure, in the report of a run of other sources', () => {
  const sources = { 'old.media': { kind: 'volume', status: 'ok', bytes: 1, files: 1, packs: [] } };
  const snapshots = [{ id: '20261119T030000Z-aaaaaa', sequence: 1, end: '2026-11-19T03:00:00.000Z', sources }];
  const error = { code: 'PG_AUTH', message: 'refused', cause: 'wrong password', hint: 'Set it.' };
  const results = { 'old.media': { at: AT, run: 'r0', after: 1, status: 'failed', error } };

  test('is called gone, with what to do about that', async () => {
    const { others } = await report({ trigger: 'manual', snapshots, results });
    const old = others?.find(({ name }) => name === 'old.media');
    expect(old).toMatchObject({ attention: 'vanished', error: { code: 'SOURCE_VANISHED' } });
    expect(old?.error?.hint).toContain('lifeboat accept old.media');
    expect(old?.error).not.toHaveProperty('cause');
  });

  test('is called gone with the source that has its volume now', async () => {
    const mount = { type: 'volume', name: 'shop_media', source: '/v', destination: '/data', writable: true };
    const directory = mkdtempSync(path.join(scratchBase, 'lifeboat-others-'));
    const planned = { ...SOURCES[1], mount };
    await rememberPlaces(directory, [{ ...planned, name: 'old.media' } as unknown as PlannedSource]);
    const { others } = await report({ trigger: 'manual', snapshots, plan: { sources: [planned] }, directory });
    rmSync(directory, { recursive: true });
    expect(others?.find(({ name }) => name === 'old.media')?.error?.message).toContain('web.media');
  });
});

describe('if snapshots cannot be used', () => {
  const unusable = [{ id: '20261118T030000Z-bbbbbb' }, { id: '20261119T030000Z-cccccc' }];
  const text = 'no usable snapshot holds it; 2 snapshots cannot be used';
  const failed = { status: 'failed', results: [], error: { code: 'DEST_FULL', message: 'no room' } };

  test('no report says that nothing is stored', async () => {
    const list = { snapshots: [], damaged: unusable };
    const look = async () => ({ snapshots: async () => list });
    const whole = await report({ trigger: 'manual', ending: failed, look });
    expect(renderReport(whole, { now: new Date(AT) })).toContain(`safe: ${text}: web.media`);
    const ending = { status: 'failed', results: [makeFailure({ name: 'web.media', lastGood: undefined as never })] };
    const error = { code: 'PG_AUTH', message: 'refused' };
    const results = { 'db.postgres': { at: AT, run: 'r0', status: 'failed', error } };
    const single = renderReport(await report({ trigger: 'manual', ending, results, unusable }), { now: new Date(AT) });
    expect(single).toContain(`safe: ${text}`);
    expect(single).toMatch(new RegExp(`db\\.postgres was not part of this run.*${text}`));
    expect(single).not.toContain('nothing is stored');
  });

  test('a last good snapshot with damage is not called safe without saying so', async () => {
    const index = { key: 'shop/index', size: 1, sha256: '0'.repeat(64) };
    const sources = { 'web.media': { kind: 'volume', status: 'ok', bytes: 1, files: 1, index } };
    const snapshots = [{ id: '20261119T030000Z-aaaaaa', sequence: 1, end: '2026-11-19T03:00:00.000Z', sources }];
    const of = async (damaged: string[]) =>
      renderReport(await report({ trigger: 'manual', ending: failed, snapshots, damaged }), { now: new Date(AT) });
    expect(await of(['shop/index'])).toContain('(20261119T030000Z-aaaaaa), but a check found damage in it: web.media');
    expect(await of(['shop/other'])).toContain('(20261119T030000Z-aaaaaa): web.media');
  });
});
