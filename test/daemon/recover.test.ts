import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { type RecoverDeps, recover } from '../../src/daemon/recover.ts';
import { putDrill } from '../../src/drill/evidence.ts';
import { refuseOlder } from '../../src/kept/last-unkept.ts';
import { failedSources, shouldReport } from '../../src/notify/policy.ts';
import type { Mount } from '../../src/plan/model.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';
import type { RestoreReport, RestoreStart, RunReport, RunStart } from '../../src/report/events.ts';
import { noteUnfinished } from '../../src/restore/point/unfinished-volume.ts';
import { Journal, type Reached } from '../../src/run/journal.ts';
import { openState, type Rollback } from '../../src/run/state.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { makeFailure, makeReport, makeResult } from '../report/fixtures.ts';
import { CopyBench } from '../run/copy-bench.ts';

const run: RunStart = {
  id: '20261120T030000Z-4f1c9a',
  rid: '8c5bd0a4-3c4d-4c1e-9f59-0c3f5f1a2b3c',
  project: 'shop',
  trigger: 'schedule',
  start: '2026-11-20T03:00:00Z',
  sources: ['web.media'],
};

let directory: string;
let journals: string;
let done: string[];
let told: RunReport[];
let restores: RestoreReport[];
let drills: DrillReport[];
let records: Map<string, string>;
let reached: Reached;
let committed: string[];
let damaged: string[];
let failing: Set<string>;
let others: Set<string>;
/** runs whose helpers still exist */
let living: Set<string>;
let deps: RecoverDeps;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-recover-'));
  journals = path.join(directory, 'journals');
  const spool = path.join(directory, 'runs');
  mkdirSync(path.join(spool, run.id), { recursive: true });
  writeFileSync(path.join(spool, run.id, 'index.ndjson'), 'x');
  done = [];
  told = [];
  restores = [];
  drills = [];
  records = new Map();
  reached = 'nothing';
  committed = [];
  damaged = [];
  failing = new Set();
  others = new Set();
  living = new Set();
  const step = async (name: string) => {
    if (failing.has(name.split(' ')[0] ?? '')) throw new LifeboatError('ENGINE_UNREACHABLE', `${name} failed`);
    done.push(name);
  };
  const repository = {
    snapshots: async () => ({
      snapshots: committed.map((id) => ({ manifest: { id }, hash: '' })),
      damaged: damaged.map((id) => ({ id, error: new LifeboatError('OBJECT_DAMAGED', 'flipped') })),
    }),
    project: 'shop',
    destination: {
      put: async (key: string, body: Readable) => {
        if (records.has(key)) throw new LifeboatError('DEST_EXISTS', 'there');
        records.set(key, await text(body));
      },
      get: async (key: string) => Readable.from([Buffer.from(records.get(key) ?? '')]),
    },
    removeObjects: async (keys: string[]) => step(`remove ${keys.join(' ')}`),
  } as unknown as Repository;
  deps = {
    journals,
    spool,
    destination: '/backups',
    project: 'shop',
    state: openState(path.join(directory, 'state')),
    dispatcher: {
      emit(event) {
        if (event.type === 'run-finished') told.push(event.report);
        if (event.type === 'restore-finished') restores.push(event.report);
        if (event.type === 'drill-finished') drills.push(event.report);
      },
      flush: async () => void done.push('flush'),
    },
    log: silentLog,
    now: () => new Date('2026-11-20T04:00:00Z'),
    repository: async () => repository,
    holdDeps: (record) => ({
      record,
      patienceMs: 0,
      log: silentLog,
      engine: {
        inspectContainer: async () => ({ running: false }),
        startContainer: (id: string) => step(`start ${id}`),
      } as never,
    }),
    isOthers: async (agent) => others.has(agent),
    reapHelpers: async (keep) => {
      await step(`reap ${(await keep({ runId: run.id, agent: 'a1' })) ? 'strays' : 'helpers'}`);
      return living;
    },
    undoVolumes: async () => {
      await step('undo volumes');
      return { done: true, now: 'old' };
    },
    completeDatabases: async () => {
      await step('drop');
      return true;
    },
    reachedBy: async () => reached,
    agentVersion: '1.2.3',
    sweepTemporary: () => step('sweep'),
  };
});
afterEach(() => rmSync(directory, { recursive: true }));

const dead = (agent = 'a1') => {
  const journal = new Journal(journals, { type: 'start', verb: 'backup', run, agent });
  journal.record({ type: 'stop', container: { id: 'c1', name: 'web', project: 'shop', service: 'web' } });
  journal.record({ type: 'object', key: 'shop/packs/a' });
  return journal;
};

test('with nothing to undo nothing is reported, and leftover helpers and the spool are cleared', async () => {
  await recover(deps);
  expect({ done, told }).toEqual({ done: ['reap helpers'], told: [] });
  expect(readdirSync(deps.spool)).toEqual([]);
});

test('a crashed run is undone, and reported as failed under its own rid', async () => {
  dead();
  await recover(deps);
  expect(done).toContain('start c1');
  expect(done.indexOf('reap helpers')).toBeLessThan(done.indexOf('remove shop/packs/a'));
  expect(done).toContain('sweep');
  expect(told).toMatchObject([{ ...run, status: 'failed', error: { code: 'RUN_DIED' } }]);
  expect(told[0]).not.toHaveProperty('snapshot');
  expect(await deps.state.lastRun()).toMatchObject({ id: run.id, status: 'failed' });
  expect(readdirSync(journals)).toEqual([]);
});

test('a later try that crashed is reported with the results of the earlier tries', async () => {
  const failure = makeFailure({ run: 't1' });
  const earlier = { results: [makeResult({ run: 't1' }), failure], runs: ['t1'], problems: [], snapshot: 't1' };
  const retry = { ...run, sources: ['db.postgres'] };
  new Journal(journals, { type: 'start', verb: 'backup', run: retry, agent: 'a1', earlier });
  await recover(deps);
  expect(told).toMatchObject([
    { id: run.id, status: 'failed', error: { code: 'RUN_DIED' }, snapshot: 't1', results: earlier.results },
  ]);
  // The results of the earlier run stay with that run.
  expect(await deps.state.results()).toMatchObject({ 'db.postgres': { run: run.id, error: { code: 'RUN_DIED' } } });
  expect(Object.keys(await deps.state.results())).toEqual(['db.postgres']);
});

test('a run that crashed after its commit is reported as failed, with its snapshot', async () => {
  dead();
  committed = [run.id];
  await recover(deps);
  expect(told).toMatchObject([{ status: 'failed', snapshot: run.id, error: { code: 'RUN_DIED' } }]);
});

test('if the destination does not answer, the report does not say that nothing is left', async () => {
  dead();
  deps.repository = async () => {
    throw new LifeboatError('DEST_UNREACHABLE', 'away');
  };
  await recover(deps);
  expect(told[0]?.error?.hint).toContain('could not be examined yet');
  expect(done).toContain('start c1');
  // The next attempt removes what the run stored, and reports nothing again.
  expect(readdirSync(journals)).toHaveLength(1);
});

test('if the manifest cannot be read, the report does not say that nothing is left', async () => {
  dead();
  damaged = [run.id];
  await recover(deps);
  expect(told[0]?.error?.hint).toContain('cannot be read');
  expect(told[0]).not.toHaveProperty('snapshot');
});

test('the previous status includes everything that the last run reported, not only its own sources', async () => {
  dead();
  const others = [{ name: 'db.postgres', attention: 'failed' as const }];
  await deps.state.saveLastRun(makeReport({ id: '20261119T030000Z-aaaaaa', status: 'ok', others }));
  await recover(deps);
  expect(told).toMatchObject([{ id: run.id, previousStatus: 'partial' }]);
});

test.each([
  [{ previousStatus: 'ok' as const }, 'ok'],
  [{}, undefined],
])('after an unreported try, the previous status is the last reported one: %j', async (heard, status) => {
  dead();
  const retry = { at: '2026-11-20T03:10:00Z', quiet: true };
  const failed = makeReport({ id: '20261119T030000Z-aaaaaa', status: 'failed', results: [], retry, ...heard });
  await deps.state.saveLastRun(failed);
  await recover(deps);
  expect(told[0]?.previousStatus).toBe(status);
  const before = { at: deps.now().getTime(), failed: failedSources({ ...failed, results: [] }) };
  expect(shouldReport('change', told[0] as RunReport, before, before.at)).toBe(true);
});

test('files of a running read-only command stay; leftovers of a crashed one are removed', async () => {
  const at = (time: string) => `look-${Date.parse(time)}-abc`;
  const [young, old] = [at('2026-11-20T03:59:00Z'), at('2026-11-19T03:59:00Z')];
  for (const name of [young, old, 'look-x']) mkdirSync(path.join(deps.spool, name));
  await recover(deps);
  expect(readdirSync(deps.spool)).toEqual([young]);
});

test('a run that crashed while it sent its report has that report sent', async () => {
  dead();
  const report = makeReport({ ...run, status: 'ok', snapshot: run.id });
  await deps.state.saveLastRun(report);
  await recover(deps);
  expect(told).toEqual([report]);
});

test.each(['start', 'reap', 'remove', 'sweep'])(
  'if "%s" fails, the journal stays, the run is reported once, and recovery tries again',
  async (what) => {
    dead();
    failing.add(what);
    await recover(deps);
    expect(told).toHaveLength(1);
    expect(readdirSync(journals)).toEqual([`${run.id}.ndjson`]);
    if (what === 'reap') expect(done).not.toContain('remove shop/packs/a');
    if (what !== 'start') expect(done).toContain('start c1');

    failing.clear();
    done = [];
    await recover(deps);
    expect(told).toHaveLength(1);
    expect(readdirSync(journals)).toEqual([]);
    expect(done).toContain('remove shop/packs/a');
    // Steps that were undone the first time are not undone twice.
    expect(done.includes('start c1')).toBe(what === 'start');
  },
);

test('a volume is repaired before its containers start, and the report says how far the restore came', async () => {
  const journal = dead();
  journal.record({ type: 'volume', id: run.id, root: '/v', reach: { kind: 'process' } });
  await recover(deps);
  expect(done.indexOf('undo volumes')).toBeGreaterThan(done.indexOf('reap helpers'));
  expect(done.indexOf('undo volumes')).toBeLessThan(done.indexOf('start c1'));

  const restore: RestoreStart = {
    ...{ id: '20261120T030000Z-00000a', project: 'shop', verb: 'restore', source: 'web.media', target: 'web.media' },
    ...{ snapshot: 's', start: '2026-11-20T03:00:00Z' },
  };
  const second = new Journal(journals, { type: 'start', verb: 'restore', id: restore.id, agent: 'a1' });
  second.record({ type: 'begun', restore });
  second.record({ type: 'volume', id: restore.id, root: '/v', reach: { kind: 'process' } });
  reached = 'unknown';
  second.record({ type: 'volume-swap', id: restore.id, area: '5', list: 'sum', size: 3, root: '2' });
  second.record({ type: 'stop', container: { id: 'c1', name: 'shop-web-1', project: 'shop', service: 'web' } });
  failing.add('undo');
  done = [];
  await recover(deps);
  expect(readdirSync(journals)).toEqual([`${restore.id}.ndjson`]);
  // Not on a volume with neither the old nor the new data.
  expect(done).not.toContain('start c1');
  failing.clear();
  await recover(deps);
  expect(readdirSync(journals)).toEqual([]);
  expect(done).toContain('start c1');
});

test('a journal that cannot be undone does not block the next one', async () => {
  writeFileSync(path.join(directory, 'x'), '');
  mkdirSync(path.join(journals, '2026.ndjson'), { recursive: true });
  dead();
  await recover(deps);
  expect(told).toHaveLength(1);
});

const restore: RestoreStart = {
  id: '20261120T031500Z-00ab12',
  project: 'shop',
  verb: 'restore',
  source: 'db.postgres',
  target: 'db.postgres',
  snapshot: run.id,
  start: '2026-11-20T03:15:00Z',
};
const deadRestore = (begun: RestoreStart = restore) => {
  const journal = new Journal(journals, { type: 'start', verb: 'restore', id: begun.id, agent: 'a1' });
  journal.record({ type: 'begun', restore: begun });
  return journal;
};

const RUN_HOOK = 'If a service has `lifeboat.exec.restored`, run that command.';
const keptBy = (id: string) => ({ id, at: restore.start, source: restore.target, inUse: 'restored' as const });
const keep = (...ids: string[]) => deps.state.saveRollbacks(ids.map(keptBy) as Rollback[]);
const meant = (wanted = {}) => refuseOlder(deps, wanted);

test.each([
  ['nothing', false, 'Nothing was replaced. You can start it again.'],
  [
    'swapped',
    true,
    `The restored data is in place, complete. \`lifeboat rollback ${restore.id}\` brings the old data back. ${RUN_HOOK}`,
  ],
] as const)(
  'a crashed restore that reached %s is reported as failed, with a record',
  async (how, canRollBack, hint) => {
    deadRestore();
    if (canRollBack) await keep(restore.id);
    reached = how;
    await recover(deps);
    expect(restores).toMatchObject([{ ...restore, status: 'failed', canRollBack, error: { code: 'RUN_DIED', hint } }]);
    expect(JSON.parse(records.get(`shop/restores/${restore.id}.json`) ?? '')).toMatchObject({
      format: 1,
      ...restores[0],
    });
    expect({ told, left: readdirSync(journals) }).toEqual({ told: [], left: [] });
  },
);

test('a crashed restore of one database under an unused name says that it is in place, and how to drop it', async () => {
  await keep('20261110T031500Z-00ab12');
  const journal = deadRestore();
  journal.record({ type: 'targets', targets: ['app'] });
  journal.record({ type: 'swapped', target: 'app' });
  await recover(deps);
  expect(restores[0]).toMatchObject({ canRollBack: false, undo: 'DROP DATABASE "app"' });
  expect(restores[0]?.error?.hint).toBe(`The restored data is in place, complete. ${RUN_HOOK}`);
  // A rollback without an id does not undo an older restore.
  await expect(meant()).rejects.toMatchObject({ code: 'NOT_CONFIRMED' });
});

test.each([
  ['an empty volume', { name: 'media', source: '/x', destination: '/media', writable: true } as const, true],
  ['a directory', undefined, false],
])('a crashed restore into %s offers no rollback', async (_, mount, isInUse) => {
  await keep('20261110T031500Z-00ab12');
  const journal = deadRestore({ ...restore, source: 'web.media', target: 'web.media' });
  const reach = { kind: 'process' } as const;
  journal.record({ type: 'volume', id: restore.id, root: '/v', reach, ...(mount ? { mount: mount as Mount } : {}) });
  deps.undoVolumes = async () => ({ done: true, now: 'new' });
  await recover(deps);
  expect(restores[0]).toMatchObject({ canRollBack: false });
  expect(restores[0]?.error?.hint).toBe(`The restored data is in place, complete. ${RUN_HOOK}`);
  if (isInUse) await expect(meant()).rejects.toMatchObject({ code: 'NOT_CONFIRMED' });
  else await meant();
});

test('a source of a crashed restore of all sources that replaced nothing does not hide those that did', async () => {
  const group = '20261120T031500Z-ffffff';
  await deps.state.saveRollbacks([{ ...keptBy('20261120T031500Z-00ab11'), group }] as Rollback[]);
  const journal = new Journal(journals, { type: 'start', verb: 'restore', id: restore.id, group, agent: 'a1' });
  journal.record({ type: 'begun', restore });
  journal.record({ type: 'targets', targets: ['app'] });
  journal.record({ type: 'swapped', target: 'app' });
  await recover(deps);
  expect(restores).toMatchObject([{ canRollBack: false }]);
  await meant();
});

test('a crashed rollback that is complete is no restore that replaced nothing', async () => {
  await keep('20261110T031500Z-00ab12');
  const rollback = { ...restore, verb: 'rollback' as const };
  const journal = new Journal(journals, { type: 'start', verb: 'restore', id: restore.id, agent: 'a1' });
  journal.record({ type: 'begun', restore: rollback, from: { id: 'gone', inUse: 'restored' } });
  reached = 'swapped';
  await recover(deps);
  expect(restores[0]?.error?.hint).toBe('The data is rolled back completely.');
  await meant();
});

test('a crashed restore is reported once, without a way back, while the records of replaced data cannot be read', async () => {
  const journal = deadRestore();
  journal.record({ type: 'targets', targets: ['app'] });
  journal.record({ type: 'swapped', target: 'app' });
  deps.state = { ...deps.state, rollbacks: () => Promise.reject(new Error('EIO')) };
  await recover(deps);
  await recover(deps);
  expect(restores).toMatchObject([{ canRollBack: false, error: { code: 'RUN_DIED' } }]);
  expect(restores[0]).not.toHaveProperty('undo');
});

test('a crashed restore of several databases reports the failed ones separately from the current one', async () => {
  reached = 'swapped';
  const journal = deadRestore();
  journal.record({ type: 'targets', targets: ['app', 'blog', 'shop', 'wiki', 'zoo'] });
  journal.record({ type: 'failed', target: 'app' });
  journal.record({ type: 'swapped', target: 'blog' });
  // The database has its name, and a later step failed.
  journal.record({ type: 'failed', target: 'blog' });
  await recover(deps);
  expect(restores[0]?.error?.hint).toBe(
    `Restored and in place: blog. Wholly the old or the new: shop. As it was: app, wiki, zoo. The restore can be started again. \`lifeboat rollback ${restore.id}\` brings back what it replaced. ${RUN_HOOK}`,
  );
});

test('a crashed restore of several databases offers a rollback only if it replaced something', async () => {
  reached = 'nothing';
  const journal = deadRestore();
  journal.record({ type: 'targets', targets: ['app', 'blog'] });
  journal.record({ type: 'failed', target: 'app' });
  await recover(deps);
  expect(restores[0]?.error?.hint).toBe(
    'Wholly the old or the new: blog. As it was: app. The restore can be started again.',
  );
  expect(restores[0]?.canRollBack).toBe(false);
});

test('a crashed restore names the tables that it was moving into a database in use', async () => {
  reached = 'nothing';
  deadRestore().record({ type: 'copying', tables: ['public.orders'] });
  await recover(deps);
  expect(restores[0]?.error?.hint).toMatch(/^public\.orders may be in the database by now, with all rows, but without/);
});

test('a crashed restore whose databases cannot be dropped now is reported once, without claims about their state', async () => {
  deadRestore();
  failing.add('drop');
  await recover(deps);
  expect(restores[0]?.error?.hint).toContain('It is not known now');
  expect(readdirSync(journals)).toHaveLength(1);
  failing.clear();
  await recover(deps);
  expect(restores).toHaveLength(1);
  expect(readdirSync(journals)).toEqual([]);
});

test('a crashed restore whose server was removed does not wait for it', async () => {
  deadRestore();
  deps.reachedBy = async () => {
    throw new LifeboatError('SOURCE_UNKNOWN', 'no running container is db.postgres');
  };
  await recover(deps);
  expect(restores[0]?.error?.hint).toContain('It is not known now');
  expect(readdirSync(journals)).toEqual([]);
});

test('a restore that stored its record has it reported; one that had not begun, and a safety snapshot, report nothing', async () => {
  deadRestore();
  records.set(`shop/restores/${restore.id}.json`, JSON.stringify({ ...restore, status: 'ok' }));
  new Journal(journals, { type: 'start', verb: 'restore', id: '20261120T031600Z-00ab13' });
  const safety: RunStart = { ...run, trigger: 'safety' };
  new Journal(journals, { type: 'start', verb: 'backup', run: safety });
  await recover(deps);
  expect(restores).toEqual([{ ...restore, status: 'ok' }]);
  expect(told).toEqual([]);
  expect(await deps.state.lastRun()).toBeUndefined();
});

const endedAs = (start: RestoreStart): RestoreReport => ({
  ...{ ...start, end: '2026-11-20T03:16:00Z', status: 'partial', restored: [{ target: 'app' }], steps: [], checks: [] },
  ...{ canRollBack: true, warnings: [], error: { code: 'INTERRUPTED', message: 'the run was asked to stop' } },
});

test('a restore that had ended has the report of its end stored and sent', async () => {
  const report = endedAs(restore);
  deadRestore().record({ type: 'ended', report });
  await recover(deps);
  expect(restores).toEqual([report]);
  expect(JSON.parse(records.get(`shop/restores/${restore.id}.json`) ?? '')).toMatchObject(report);
  expect(readdirSync(journals)).toEqual([]);
});

test('a restore of all sources that had ended is reported once, as it ended, and none of its sources as dead', async () => {
  const [group, ...parts] = ['20261120T030000Z-ffffff', '20261120T030000Z-000001', '20261120T030000Z-000002'] as const;
  for (const id of parts) {
    const part = new Journal(journals, { type: 'start', verb: 'restore', id, group, agent: 'a1' });
    part.record({ type: 'begun', restore: { ...restore, id } });
  }
  const whole = new Journal(journals, { type: 'start', verb: 'restore', id: group, group, agent: 'a1' });
  const report = endedAs({ ...restore, id: group, source: 'all sources' });
  whole.record({ type: 'ended', report });
  await recover(deps);
  expect(restores).toEqual([report]);
  expect([...records.keys()]).toEqual([`shop/restores/${group}.json`]);
  expect(readdirSync(journals)).toEqual([]);
});

test('a crashed drill is reported as failed, once', async () => {
  const id = '20261120T030000Z-4f1c9a';
  const start = { type: 'start', verb: 'drill', id, trigger: 'manual', agent: 'a1' } as const;
  new Journal(journals, start).record({ type: 'helper', name: 'shop-lifeboat-drill-4f1c9a' });
  failing.add('drop');
  await recover(deps);
  await recover(deps);
  const [report, ...more] = drills;
  expect(report).toMatchObject({ id, trigger: 'manual', status: 'failed', error: { code: 'RUN_DIED' } });
  expect(report).toMatchObject({ project: 'shop', start: '2026-11-20T03:00:00.000Z', end: '2026-11-20T04:00:00.000Z' });
  expect({ more, told, restores }).toEqual({ more: [], told: [], restores: [] });
});

test('a drill that died after it had stored its evidence is reported with that', async () => {
  const bench = new CopyBench();
  const id = '20261120T030000Z-4f1c9a';
  const stored = {
    ...({ id, project: 'shop', trigger: 'schedule', status: 'ok', agentVersion: '1.2.3' } as const),
    ...{ start: '2026-11-20T03:00:00.000Z', end: '2026-11-20T03:00:01.000Z', results: [], unproven: [] },
  };
  await putDrill(await bench.main(), stored);
  deps.repository = () => bench.main();
  new Journal(journals, { type: 'start', verb: 'drill', id, trigger: 'schedule', agent: 'a1' });
  await recover(deps);
  bench.remove();
  expect(drills).toEqual([stored]);
});

test('the volume of a recovery that died is named in the log, as one that may be incomplete', async () => {
  const id = '20261120T031600Z-00ab13';
  new Journal(journals, { type: 'start', verb: 'restore', id, agent: 'a1' });
  await noteUnfinished(deps.state, 'recovered', id);
  const said: unknown[] = [];
  deps.log = { ...silentLog, warn: (message, fields) => void said.push({ message, ...fields }) };
  await recover(deps);
  expect(said).toContainEqual({ message: expect.stringContaining('may be incomplete'), run: id, volume: 'recovered' });
  expect(readdirSync(journals)).toEqual([]);
});

test('a dead run is reported once although the record of unfinished volumes cannot be read', async () => {
  mkdirSync(path.join(deps.state.directory, 'unfinished-volumes.json'), { recursive: true });
  deadRestore();
  failing.add('drop');
  await recover(deps);
  await recover(deps);
  expect(restores).toHaveLength(1);
});

test('an empty journal is removed without a report', async () => {
  mkdirSync(journals, { recursive: true });
  writeFileSync(path.join(journals, 'a.ndjson'), '\n{"type":"sta');
  await recover(deps);
  expect({ told, left: readdirSync(journals) }).toEqual({ told: [], left: [] });
});

test('the journal, containers, helpers and spool of another running agent stay', async () => {
  dead('a2');
  others.add('a2');
  mkdirSync(path.join(deps.spool, 'of nobody'));
  const kept: boolean[] = [];
  deps.reapHelpers = async (keep) => {
    for (const agent of ['a1', 'a2', '']) kept.push(await keep({ runId: run.id, agent }));
    return new Set();
  };
  await recover(deps);
  expect({ done, told, kept }).toEqual({ done: [], told: [], kept: [false, true, false] });
  expect(readdirSync(journals)).toEqual([`${run.id}.ndjson`]);
  expect(readdirSync(deps.spool)).toEqual([run.id]);

  others.clear();
  await recover(deps);
  expect(done).toContain('start c1');
  expect(told).toMatchObject([{ error: { code: 'RUN_DIED' } }]);
  expect(readdirSync(deps.spool)).toEqual([]);
});

test('while it is unknown whether the other agent runs, nothing of it changes', async () => {
  dead('a2');
  deps.isOthers = async () => {
    throw new LifeboatError('ENGINE_UNREACHABLE', 'away');
  };
  await recover(deps);
  expect({ done, told }).toEqual({ done: [], told: [] });
  expect(readdirSync(journals)).toEqual([`${run.id}.ndjson`]);
  expect(readdirSync(deps.spool)).toEqual([run.id]);
});

test('a run with a helper that cannot be removed is not undone, and its directory is not read', async () => {
  dead();
  mkdirSync(path.join(deps.spool, 'of nobody'));
  living.add(run.id);
  await recover(deps);
  expect(done).not.toContain('remove shop/packs/a');
  expect(readdirSync(deps.spool)).toEqual([run.id]);
  expect(readdirSync(journals)).toEqual([`${run.id}.ndjson`]);
  // The run is reported, and its containers are started even so.
  expect(done).toContain('start c1');
  expect(told).toMatchObject([{ error: { code: 'RUN_DIED' } }]);

  living.clear();
  await recover(deps);
  expect(done).toContain('remove shop/packs/a');
  expect(readdirSync(deps.spool)).toEqual([]);
  expect(readdirSync(journals)).toEqual([]);
});

test('the spool stays unchanged while it is unknown which helpers run', async () => {
  failing.add('reap');
  await recover(deps);
  expect(readdirSync(deps.spool)).toEqual([run.id]);
});

test('a helper of `plan` is not removed early', async () => {
  const kept: unknown[] = [];
  deps.reapHelpers = async (keep) => {
    for (const time of ['035930', '035830']) {
      kept.push(await keep({ runId: `plan-20261120T${time}Z-4f1c9a`, agent: 'a1' }));
    }
    return new Set();
  };
  await recover(deps);
  expect(kept).toEqual([true, false]);
});

test('services of a restore of all sources stay stopped until each of its volumes is old or new', async () => {
  const [group, source] = ['20261120T030000Z-ffffff', '20261120T030000Z-000001'];
  const part = new Journal(journals, { type: 'start', verb: 'restore', id: source, group, agent: 'a1' });
  part.record({ type: 'volume', id: source, root: '/volume', reach: { kind: 'process' } });
  part.record({ type: 'volume-swap', id: source, area: '5', list: 'sum', size: 3, root: '2' });
  const whole = new Journal(journals, { type: 'start', verb: 'restore', id: group, group, agent: 'a1' });
  whole.record({ type: 'stop', container: { id: 'c1', name: 'web', project: 'shop', service: 'web' } });
  const undo = deps.undoVolumes;
  deps.undoVolumes = async () => ({ done: false });
  await recover(deps);
  expect(done).not.toContain('start c1');
  expect(readdirSync(journals)).toHaveLength(2);
  deps.undoVolumes = async (...given) => {
    part.record({ type: 'volume-done', id: source, now: 'old' });
    return undo(...given);
  };
  await recover(deps);
  expect(done.indexOf('start c1')).toBeGreaterThan(done.indexOf('undo volumes'));
  expect(readdirSync(journals)).toEqual([]);
});
