import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { chooseRollback, chooseUsable } from '../../src/kept/choose.ts';
import { findLostSwap } from '../../src/kept/cut-off.ts';
import { keptLines, listKept } from '../../src/kept/list.ts';
import { halfSwapped } from '../../src/kept/undo-volumes.ts';
import { recordUnrecorded, withoutSaving } from '../../src/kept/unrecorded.ts';
import type { Plan, PostgresSource, VolumeSource } from '../../src/plan/model.ts';
import { appendJournal, readJournal } from '../../src/run/journal.ts';
import { openState, type Rollback } from '../../src/run/state.ts';
import type { VolumeArea } from '../../src/store/exchange/list-areas.ts';
import type { TreeStore } from '../../src/trees/runner.ts';

/** Old data whose record is lost, and records whose data cannot be reached. */

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-unrecorded-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const signal = new AbortController().signal;
const mount = { type: 'volume', name: 'media', source: '/x', destination: '/media', writable: true };
const source = (name: string) => ({ kind: 'volume', name, mount }) as unknown as VolumeSource;
const plan = async () => ({ sources: [source('web.media'), source('web.down')], problems: [] }) as unknown as Plan;
const known = (area: string) => ({ area, identity: '5', list: 'sum', size: 3, root: '2@1' });
const proven: VolumeArea = {
  ...{ kind: 'before', id: 'b', files: 1, bytes: 12 },
  shows: { restore: 'r', holds: 'before', at: '2026-11-20T03:00:00Z', snapshot: 's', known: known('b') },
};
const forged: VolumeArea = { kind: 'before', id: 'e', files: 0, bytes: 0, unproven: 'user 33 owns it' };
const rebuilt: Rollback = {
  ...{ id: 'r', at: '2026-11-20T03:00:00Z', source: 'web.media', snapshot: 's', inUse: 'restored' },
  volume: known('b'),
};

test('after the loss of the spool, old data is recorded again; a volume that is down hides no other', async () => {
  const state = openState(directory);
  let asked = 0;
  const treeStore = {
    volume: async () => {
      asked++;
      if (asked % 2 === 0) throw new Error('down');
      return [proven, forged];
    },
  } as unknown as TreeStore;
  const deps = { plan, treeStore, agentMounts: [], state, log: silentLog };
  const dry = withoutSaving(deps);
  await recordUnrecorded(dry, { runId: 'x', signal });
  expect(await dry.state.rollbacks()).toEqual([rebuilt]);
  expect(await state.rollbacks()).toEqual([]);
  await recordUnrecorded(deps, { runId: 'x', signal });
  await recordUnrecorded(deps, { runId: 'x', signal });
  expect(await state.rollbacks()).toEqual([rebuilt]);
});

const server = (name: string, mounts: object[]) =>
  ({ kind: 'postgres', name, mounts, containerId: 'one', dataDirectories: ['/data/pg'] }) as unknown as PostgresSource;
const data = { type: 'volume', name: 'db', source: '/y', destination: '/data', writable: true };
const base = { kind: 'base', server: 'db.postgres', name: 'db.postgres.base' };
const dataDirectory = { kind: 'volume', name: 'db.postgres', mount: { ...data, directory: 'pg' } };
const withServers = async () => {
  const sources = [server('db.postgres', [data]), server('dumped.postgres', [data]), server('old.postgres', []), base];
  return { sources, problems: [] } as unknown as Plan;
};

test('old data in the data directory of a server is recorded again, with its place', async () => {
  const state = openState(directory);
  const roots: string[] = [];
  const treeStore = {
    volume: async ({ root }: { root: string }) => {
      roots.push(root);
      return roots.length === 1 ? [proven] : [];
    },
  } as unknown as TreeStore;
  await recordUnrecorded(
    { plan: withServers, treeStore, agentMounts: [], state, log: silentLog },
    { runId: 'x', signal },
  );
  expect(roots).toEqual(['/pgdata/pg', '/pgdata/pg']);
  expect(await state.rollbacks()).toMatchObject([{ ...rebuilt, source: 'db.postgres', dataDirectory }]);
});

test('status shows it for a server with base backups, until one of them has seen that there is none', async () => {
  const state = openState(directory);
  const read: string[] = [];
  const areas = async ({ name }: VolumeSource) => {
    read.push(name);
    return [proven, forged];
  };
  const none = () => Promise.reject(new Error('there is no server'));
  const deps = { state, plan: withServers, open: async () => new Set<string>() };
  const found = await listKept(deps, none, areas);
  expect(found.restores).toMatchObject([{ id: 'r', source: 'db.postgres', dataDirectory, bytes: 12 }]);
  expect(found.stray).toMatchObject([{ source: 'db.postgres', name: 'pgsql_tmp.lifeboat-before-e' }]);
  expect(read).toEqual(['db.postgres']);
  writeFileSync(path.join(directory, 'stray-areas.json'), '{"db.postgres":[]}');
  await state.saveRollbacks([]);
  expect(await listKept(deps, none, areas)).toEqual({ restores: [], stray: [] });
});

test('status shows such data, names what it cannot verify, and reads no volume in which a backup saw none', async () => {
  const state = openState(directory);
  const read: string[] = [];
  const areas = async ({ name }: VolumeSource) => {
    read.push(name);
    return name === 'web.media' ? [proven, forged] : [];
  };
  const none = () => Promise.reject(new Error('there is no server'));
  const deps = { state, plan, open: async () => new Set<string>() };
  const lines = keptLines(await listKept(deps, none, areas), new Date('2026-11-20T03:00:00Z'));
  expect(lines).toEqual([
    expect.stringMatching(/web\.media restored .*\(r\): replaced data kept, 12 B$/),
    expect.stringMatching(/web\.media: \.lifeboat-before-e .*cannot verify it: user 33 owns it.*as root/),
  ]);
  expect(await state.rollbacks()).toEqual([]);
  expect(read).toEqual(['web.media', 'web.down']);
  writeFileSync(path.join(directory, 'stray-areas.json'), '{"web.media":[],"web.down":["x"]}');
  // What a backup saw counts only together with the records at that time.
  expect((await listKept(deps, none, areas)).restores).toHaveLength(1);
  read.pop();
  read.pop();
  await state.saveRollbacks([]);
  expect(await listKept(deps, none, areas)).toEqual({ restores: [], stray: [] });
  expect(read.slice(2)).toEqual(['web.down']);
});

test('status says why old data is not found, and keeps the record', async () => {
  const state = openState(directory);
  await state.saveRollbacks([rebuilt, { ...rebuilt, id: 'gone', source: 'old.media' }]);
  const none = () => Promise.reject(new Error('there is no server'));
  const lost = { kind: 'before' as const, id: 'b', files: 0, bytes: 0, missing: 'volume' as const };
  const areas = async ({ name }: VolumeSource) => (name === 'web.media' ? [lost] : []);
  const deps = { state, plan, open: async () => new Set<string>() };
  const lines = keptLines(await listKept(deps, none, areas), new Date('2026-11-20T03:00:00Z'));
  expect(lines).toEqual([
    expect.stringMatching(/old\.media .*not found, because no running container .*`lifeboat rollback gone --forget`/),
    expect.stringMatching(/web\.media .*not found, because its volume is not mounted/),
  ]);
  expect(await state.rollbacks()).toHaveLength(2);
});

test('a restore that cannot be rolled back does not block the others, but a script must name one of them', () => {
  const newest = { ...rebuilt, id: 'r2', source: 'old.media' };
  const unusable = new Map([['r2', 'no running container has the source']]);
  expect(chooseRollback([rebuilt, newest], {}, unusable)).toBe(rebuilt);
  expect(chooseRollback([rebuilt, newest], { id: 'r2' }, unusable)).toBe(newest);
  expect(chooseUsable([rebuilt, newest], {}, unusable)).toBe(rebuilt);
  expect(() => chooseUsable([rebuilt, newest], { unattended: true }, unusable)).toThrow(
    expect.objectContaining({ code: 'NOTHING_TO_ROLL_BACK', hint: expect.stringContaining('`lifeboat rollback r`') }),
  );
  expect(chooseUsable([rebuilt, newest], { unattended: true, dryRun: true }, unusable)).toBe(rebuilt);
  expect(() => chooseRollback([newest], {}, unusable)).toThrow(
    expect.objectContaining({ hint: expect.stringContaining('`lifeboat rollback r2 --forget`') }),
  );
});

test.each([
  ['a restore', undefined],
  ['a rollback', { id: 'r', inUse: 'restored' as const }],
])('a swap of %s whose data is lost can be accepted as it is, but not one that can be reversed', async (_, from) => {
  const file = path.join(directory, 'x.ndjson');
  const id = from ? 'x' : 'r';
  writeFileSync(file, '');
  if (from) appendJournal(file, { type: 'begun', restore: {} as never, from });
  appendJournal(file, { type: 'volume', id, root: '/v', reach: { kind: 'process' } });
  appendJournal(file, { type: 'volume-swap', id, area: '5', list: 'sum', size: 3, root: '2@1' });
  let missing: 'volume' | undefined;
  const asked: unknown[] = [];
  const treeStore = {
    volume: async ({ known }: { known: unknown }) => {
      asked.push(known);
      return [{ kind: 'before', id, files: 0, bytes: 0, ...(missing ? { missing } : {}) }];
    },
  } as unknown as TreeStore;
  const find = (restore: Rollback) =>
    findLostSwap({ journals: directory, agentMounts: [], treeStore }, restore, { runId: 'f', signal });
  expect(await find(rebuilt)).toBeUndefined();
  expect(asked).toEqual([[known(id)]]);
  missing = 'volume';
  expect(await find({ ...rebuilt, id: 'another' })).toBeUndefined();
  const lost = await find(rebuilt);
  expect(lost?.missing).toBe('volume');
  expect(halfSwapped(await readJournal(file))).toHaveLength(1);
  lost?.accept();
  expect(halfSwapped(await readJournal(file))).toEqual([]);
});
