import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { noteLast } from '../../src/kept/last-unkept.ts';
import { recoverVolumes } from '../../src/kept/undo-volumes.ts';
import type { Plan, VolumeSource } from '../../src/plan/model.ts';
import type { RestoreReport } from '../../src/report/events.ts';
import { rollbackAll } from '../../src/restore/all/rollback-all.ts';
import type { RestoreDeps } from '../../src/restore/context.ts';
import { forget, rollback } from '../../src/restore/rollback.ts';
import { appendJournal, openJournals, readJournal } from '../../src/run/journal.ts';
import { openState, type Rollback, type State } from '../../src/run/state.ts';
import type { VolumeArea } from '../../src/store/exchange/list-areas.ts';
import type { TreeStore } from '../../src/trees/runner.ts';

/** Rollbacks of volumes, with jobs that stand for the volume. */

let directory: string;
let state: State;
/** the kinds of jobs that ran */
let jobs: string[];
let said: string[];
let areas: VolumeArea[];
/** whether the spool is full */
let full: boolean;
/** called before each exchange, with the number of those before it */
let onSwap: (before: number) => void;
/** which data is in place after a reversal; undefined: it fails */
let undoneTo: 'new' | 'old' | undefined;
let sources: VolumeSource[];

const mount = { type: 'volume', name: 'media', source: '/x', destination: '/media', writable: true };
const known = { area: 'r', identity: '5', list: 'sum', size: 3, root: '2@1' };
const turned = (area: string) => ({ area, identity: '6', list: 'new', size: 4, root: '2@1' });
const record = (id: string, more: Partial<Rollback> = {}): Rollback => ({
  ...{ id, at: '2026-11-20T03:00:00Z', source: 'web.media', snapshot: 's', inUse: 'restored' },
  ...{ volume: { ...known, area: id } },
  ...more,
});
const area = (id: string, more: Partial<VolumeArea> = {}): VolumeArea => ({
  ...{ kind: 'before', id, files: 1, bytes: 2 },
  ...more,
});
const showing = (id: string, holds: 'before' | 'restored' = 'before') =>
  area(id, { shows: { restore: id, holds, at: '2026-11-20T03:00:00Z', known: { ...known, area: id } } });

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-rollback-'));
  state = openState(path.join(directory, 'state'));
  jobs = [];
  said = [];
  areas = [area('r')];
  full = false;
  onSwap = () => undefined;
  undoneTo = 'new';
  sources = [{ kind: 'volume', name: 'web.media', mount } as unknown as VolumeSource];
});
afterEach(() => rmSync(directory, { recursive: true }));

function makeDeps(): RestoreDeps {
  const journals = path.join(directory, 'runs');
  const treeStore = {
    async volume(job: { kind: string; id: string; journal: string; check?: boolean }) {
      jobs.push(job.check ? 'check' : job.kind);
      if (job.kind === 'areas') return areas;
      if (job.kind === 'undo' && !undoneTo) throw new LifeboatError('HELPER_FAILED', 'no helper');
      if (job.kind === 'undo') return { now: undoneTo, kept: true, left: [] };
      if (job.kind === 'forget' || job.check) return {};
      onSwap(jobs.filter((kind) => kind === 'roll-back').length - 1);
      const { area, identity, ...proof } = turned(job.id);
      appendJournal(job.journal, { type: 'volume-swap', id: area, area: identity, ...proof });
      appendJournal(job.journal, { type: 'volume-ended', id: job.id, now: 'new', kept: true });
      return { kept: turned(area), left: [], swapMs: 3 };
    },
  } as unknown as TreeStore;
  const saving: State = {
    ...state,
    async saveRollbacks(all) {
      if (full) throw new LifeboatError('SPOOL_FULL', 'the spool is full');
      await state.saveRollbacks(all);
    },
  };
  const base = { treeStore, log: silentLog, state: saving, agentMounts: [] };
  return {
    ...{ ...base, project: 'shop', journals, agentId: 'a', agentVersion: '1', now: () => new Date() },
    lock: async () => ({ release: async () => undefined }),
    async recover() {
      for (const file of await openJournals(journals)) {
        const { done } = await recoverVolumes(base, await readJournal(file), file);
        if (done) rmSync(file);
      }
    },
    plan: async () => ({ sources, problems: [] }) as unknown as Plan,
    dispatcher: { emit: () => undefined, flush: async () => undefined },
    holdDeps: () => ({}),
    repository: () => Promise.reject(new Error('no repository')),
  } as unknown as RestoreDeps;
}

const request = (more: { id?: string; dryRun?: boolean; signal?: AbortSignal } = {}) => ({
  ...{ canConfirm: true, stopServices: false, signal: new AbortController().signal },
  confirm: async () => undefined,
  say: (line: string) => void said.push(line),
  ...more,
});

test('a rollback whose record cannot be saved succeeds, and recovery saves the record from the journal', async () => {
  await state.saveRollbacks([record('r')]);
  full = true;
  const deps = makeDeps();
  const report = await rollback(deps, request());
  expect(report).toMatchObject({ status: 'ok', canRollBack: true });
  expect(report.warnings).toEqual([expect.stringContaining('could not be saved: the spool is full')]);
  expect(await state.rollbacks()).toEqual([record('r')]);
  full = false;
  await deps.recover();
  expect(await state.rollbacks()).toEqual([record('r', { inUse: 'before', volume: turned(report.id) })]);
  expect(readdirSync(path.join(directory, 'runs'))).toEqual([]);
});

test('the same for a rollback of all sources', async () => {
  await state.saveRollbacks([record('r', { group: 'g' })]);
  full = true;
  const deps = makeDeps();
  const report = await rollbackAll(deps, request(), 'g');
  expect(report).toMatchObject({ status: 'ok', canRollBack: true, restored: [{ target: 'web.media: media' }] });
  expect(report.warnings).toEqual([expect.stringContaining('could not be saved')]);
  full = false;
  await deps.recover();
  expect(await state.rollbacks()).toMatchObject([{ id: 'r', inUse: 'before', volume: { list: 'new' } }]);
});

test('a rollback of all sources uses each record as the volume completes it', async () => {
  areas = [showing('r', 'restored')];
  // The record was saved before its exchange, and the volume shows that the data is swapped already.
  await state.saveRollbacks([record('r', { group: 'g', volume: { area: 'r' } })]);
  await expect(rollbackAll(makeDeps(), request(), 'g')).rejects.toMatchObject({
    code: 'NOTHING_TO_ROLL_BACK',
    message: expect.stringContaining('is swapped already'),
  });
  expect(jobs).toEqual(['areas']);
});

describe('an interrupted rollback of all sources', () => {
  const interruption = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
  const half = new LifeboatError('TREE_HALF_RESTORED', 'neither old nor new');
  /** Rolls back three sources. That one, from 0, fails with the error, and the signal aborts. */
  const rollBack = async (at: number, error: LifeboatError, now?: typeof undoneTo) => {
    undoneTo = now;
    const names = ['a.media', 'b.media', 'c.media'];
    sources = names.map((name) => ({ ...sources[0], name }) as VolumeSource);
    areas = names.map((name) => area(name));
    await state.saveRollbacks(names.map((name) => record(name, { source: name, group: 'g' })));
    const stop = new AbortController();
    onSwap = (before) => {
      if (before < at) return;
      stop.abort(interruption);
      throw error;
    };
    const ended = rollbackAll(makeDeps(), request({ signal: stop.signal }), 'g');
    return ended.then(
      () => expect.fail('it was interrupted'),
      (reason: unknown) => reason,
    );
  };

  test('is not the failure of the source whose turn it is', async () => {
    expect(await rollBack(2, interruption, 'old')).toMatchObject({
      code: 'INTERRUPTED',
      message: 'the run was asked to stop',
      hint: expect.stringContaining('b.media: media: the old data is in place, complete. a.media: unchanged'),
    });
  });

  test('leaves the services of a half restored volume stopped', async () => {
    expect(await rollBack(1, half)).toMatchObject({ code: 'TREE_HALF_RESTORED' });
  });
});

test('a dry run saves no record', async () => {
  await state.saveRollbacks([record('r', { volume: { area: 'r' } })]);
  areas = [showing('r'), showing('x')];
  await rollback(makeDeps(), request({ dryRun: true }));
  await forget(makeDeps(), request({ dryRun: true, id: 'r' }));
  expect(jobs).toEqual(['areas', 'check', 'areas']);
  expect(await state.rollbacks()).toEqual([record('r', { volume: { area: 'r' } })]);
});

test('without an id, a restore whose source is gone is passed over; it can be forgotten', async () => {
  const gone = record('t', { source: 'old.media' });
  await state.saveRollbacks([record('r'), gone]);
  expect(await rollback(makeDeps(), request())).toMatchObject({ of: 'r', source: 'web.media' });
  expect(said[0]).toMatch(/^Restore t of old\.media cannot be rolled back: no running container/);
  await state.saveRollbacks([record('r'), gone]);
  await expect(rollback(makeDeps(), request({ id: 't' }))).rejects.toMatchObject({
    code: 'SOURCE_UNKNOWN',
    hint: expect.stringContaining('lifeboat rollback t --forget'),
  });
  jobs = [];
  expect(await forget(makeDeps(), request())).toEqual(gone);
  expect(said.at(-1)).toMatch(
    /removes only the record.*stays in \.lifeboat-before-t of the volume that old\.media had/,
  );
  expect(jobs).toEqual([]);
  expect(await state.rollbacks()).toEqual([record('r')]);
});

test('a record of data that is not found stays until somebody forgets it, and does not block the others', async () => {
  const later = record('s');
  await state.saveRollbacks([record('r'), later]);
  areas = [area('r'), area('s', { missing: 'area' })];
  expect(await rollback(makeDeps(), request())).toMatchObject({ of: 'r' });
  expect((await state.rollbacks()).map(({ id }) => id).sort()).toEqual(['r', 's']);
  areas = [area('s', { missing: 'volume' })];
  jobs = [];
  await forget(makeDeps(), request({ id: 's' }));
  expect(said.at(-1)).toMatch(/removes only the record, because its volume is not mounted.*\.lifeboat-before-s/);
  expect(jobs).toEqual(['areas']);
  expect((await state.rollbacks()).map(({ id }) => id)).toEqual(['r']);
});

test('the preview of a rollback shows the age, the content, and where everything written since goes', async () => {
  const at = new Date(Date.now() - 16 * 60_000).toISOString();
  await state.saveRollbacks([record('r', { at })]);
  await rollback(makeDeps(), request({ dryRun: true }));
  expect(said).toEqual([
    'Rollback of web.media: brings back the data from before that restore (restore r, made 16m ago)',
    '  would replace  web.media (by the data from before the restore: 2 B, 1 file)',
    expect.stringContaining('everything written since the restore goes out of use'),
  ]);
  said = [];
  await forget(makeDeps(), request({ dryRun: true }));
  expect(said).toEqual([
    'Forget restore r, made 16m ago, of web.media: permanently drops the data that it replaced: .lifeboat-before-r (2 B, 1 file)',
  ]);
});

test('a rollback without an id is refused after a restore that cannot be rolled back', async () => {
  await state.saveRollbacks([record('r'), record('s', { group: 'g', source: 'web.media' })]);
  const last = { id: 't', start: '2026-11-20T04:00:00Z', source: 'db.postgres', restored: [{ target: 'x' }] };
  await noteLast(state, { ...last, canRollBack: false } as RestoreReport);
  await expect(rollback(makeDeps(), request())).rejects.toMatchObject({ code: 'NOT_CONFIRMED' });
  await expect(rollbackAll(makeDeps(), request(), 'g')).rejects.toMatchObject({ code: 'NOT_CONFIRMED' });
  expect(jobs).toEqual([]);
  await state.saveRollbacks([record('r')]);
  await rollback(makeDeps(), request({ id: 'r' }));
  // The rollback is now the last change, and the command reverses it.
  areas = [area('r')];
  await rollback(makeDeps(), request({ dryRun: true }));
});

test('after the loss of the spool, a rollback finds the data in the volume', async () => {
  areas = [showing('r')];
  expect(await rollback(makeDeps(), request())).toMatchObject({ of: 'r' });
  expect(await state.rollbacks()).toMatchObject([{ id: 'r', source: 'web.media', inUse: 'before' }]);
  areas = [];
  await state.saveRollbacks([]);
  await expect(rollback(makeDeps(), request())).rejects.toMatchObject({ code: 'NOTHING_TO_ROLL_BACK' });
});

test('the data directory of a server that still runs is not exchanged, although no service is to be stopped', async () => {
  const dataDirectory = { kind: 'volume', name: 'db.postgres', mount: { ...mount, directory: 'pgdata' } };
  const kept = record('r', { source: 'db.postgres', dataDirectory: dataDirectory as unknown as VolumeSource });
  await state.saveRollbacks([kept]);
  sources = [];
  const db = {
    id: 'id-db',
    name: 'db',
    imageId: 'i',
    running: true,
    env: {},
    command: [],
    mounts: [mount],
    labels: {},
  };
  const engine = {
    listContainers: async () => [db],
    inspectContainer: async () => db,
    inspectImage: async () => ({ labels: {} }),
  } as unknown as RestoreDeps['engine'];
  const deps = { ...makeDeps(), engine };
  await expect(rollback(deps, request())).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  expect(jobs).toEqual(['areas', 'check']);
  db.running = false;
  expect(await rollback(deps, request())).toMatchObject({ status: 'ok', of: 'r' });
});

test('in a copy, a rollback is refused before anything happens if the data may be that of another project', async () => {
  await state.saveRollbacks([record('r', { group: 'g' })]);
  const source = { kind: 'volume', name: 'web.media', project: 'shop', containerId: 'c', mount };
  sources = [source as unknown as VolumeSource];
  const engine = {
    inspectContainer: async () => ({ labels: { 'com.docker.compose.project': 'shop' }, mounts: [mount] }),
    inspectVolume: async () => ({ labels: { 'com.docker.compose.project': 'live' }, options: {} }),
    listContainers: async () => [],
  };
  const deps = { ...makeDeps(), engine, isCopy: true } as unknown as RestoreDeps;
  for (const attempt of [rollback, forget, () => rollbackAll(deps, request(), 'g')])
    await expect(attempt(deps, request())).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  expect(jobs).toEqual([]);
});

test('in a copy, a rollback names the project, and asks for its name', async () => {
  await state.saveRollbacks([record('r')]);
  const source = { kind: 'volume', name: 'web.media', project: 'shop', containerId: 'c', mount };
  sources = [source as unknown as VolumeSource];
  const labels = { 'com.docker.compose.project': 'shop' };
  let isForeign = false;
  const engine = {
    inspectContainer: async () => ({ labels, mounts: [mount] }),
    inspectVolume: async () => ({ labels, options: {} }),
    listContainers: async () => (isForeign ? [{ name: 'live-web-1', labels: {}, mounts: [mount] }] : []),
  };
  const deps = { ...makeDeps(), engine, isCopy: true } as unknown as RestoreDeps;
  const asked: string[] = [];
  const confirm = async (name: string) => void asked.push(name);
  await rollback(deps, { ...request(), confirm });
  expect(asked).toEqual(['shop']);
  expect(said[0]).toContain('Rollback of web.media in project shop: brings back');
  // The check is repeated right before the swap.
  jobs = [];
  areas = [area('r')];
  await state.saveRollbacks([record('r')]);
  const confirmLate = async () => {
    isForeign = true;
  };
  const late = { ...request(), confirm: confirmLate };
  await expect(rollback(deps, late)).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  expect(jobs).not.toContain('exchange');
  expect(jobs.filter((kind) => kind !== 'areas' && kind !== 'check')).toEqual([]);
});
