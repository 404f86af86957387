import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { type Log, silentLog } from '../../src/base/log.ts';
import { keptLines, listKeptRestores } from '../../src/kept/list.ts';
import { openVolumes, undoVolumes } from '../../src/kept/undo-volumes.ts';
import {
  asInVolume,
  completeKeptVolume,
  refreshKeptVolume,
  withdrawKeptVolume,
} from '../../src/kept/volume-records.ts';
import { checkRollBack, checkWhole, forgetVolume, isHalfRestored, orTakenBack } from '../../src/kept/volumes.ts';
import type { Mount, Plan, VolumeSource } from '../../src/plan/model.ts';
import { checkPaths } from '../../src/restore/paths.ts';
import { appendJournal, type JournalEntry, readJournal } from '../../src/run/journal.ts';
import { openState, type Rollback, type State } from '../../src/run/state.ts';
import type { KnownArea } from '../../src/store/exchange/known-area.ts';
import type { VolumeArea } from '../../src/store/exchange/list-areas.ts';
import { encodeIndexEntry, type IndexEntry } from '../../src/store/filesystem/index-file.ts';
import type { TreeStore } from '../../src/trees/runner.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-kept-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const volume = (id: string): JournalEntry => ({ type: 'volume', id, root: '/v', reach: { kind: 'process' } });
const area = (id: string): VolumeArea => ({ area: id, files: 1, bytes: 2 });
const known = (id: string): KnownArea => ({ area: id, identity: '5', list: 'sum', size: 3 });
const rollback = (id: string, source = 'web.media'): Rollback => ({
  ...{ id, at: '2026-11-20T03:00:00Z', source, snapshot: 's' },
  ...{ inUse: 'restored', volume: known(id) },
});
const swapped = (id: string): JournalEntry => ({ type: 'volume-swap', id, area: '5', list: 'sum', size: 3 });

test('unfinished work on a volume is reversed once, and retried if that fails', async () => {
  const journal = path.join(directory, 'journal');
  writeFileSync(journal, '');
  const entries = [volume('a'), { type: 'volume-done', id: 'a' } as const, volume('b')];
  expect(openVolumes(entries)).toEqual([volume('b')]);
  const done: string[] = [];
  let failing = true;
  const treeStore = {
    volume: async (job: { kind: string; id: string }) => {
      if (failing) throw new LifeboatError('HELPER_FAILED', 'no helper');
      done.push(`${job.kind} ${job.id}`);
      return { now: 'new', left: [] };
    },
  } as unknown as TreeStore;
  expect(await undoVolumes({ treeStore, log: silentLog, agentMounts: [] }, entries, journal)).toEqual({ done: false });
  failing = false;
  expect(await undoVolumes({ treeStore, log: silentLog, agentMounts: [] }, entries, journal)).toEqual({
    done: true,
    now: 'new',
  });
  const now = [...entries, ...(await readJournal(journal))];
  // The result is still known when the rest of the cleanup is retried.
  expect(await undoVolumes({ treeStore, log: silentLog, agentMounts: [] }, now, journal)).toEqual({
    done: true,
    now: 'new',
  });
  expect(done).toEqual(['undo b']);
});

/** A volume in which an exchange is cut off, and the result of its reversal. */
function cutOff(undone: 'old' | 'new' | 'failed', { kept, moved = true }: { kept?: KnownArea; moved?: boolean } = {}) {
  const journal = path.join(directory, 'a.ndjson');
  writeFileSync(journal, `${JSON.stringify(volume('a'))}\n`);
  const treeStore = {
    volume: async () => {
      if (undone === 'failed') throw new LifeboatError('HELPER_FAILED', 'no helper');
      return { now: undone, left: [], ...(kept ? { kept } : {}) };
    },
  } as unknown as TreeStore;
  const place = { root: '/v', reach: { kind: 'process' as const } };
  const run = { id: 'a', journal, signal: new AbortController().signal };
  const killed = async () => {
    if (moved) appendJournal(journal, swapped('a'));
    throw new LifeboatError('TREE_STALLED', 'killed');
  };
  return { place, result: orTakenBack({ treeStore, log: silentLog, agentMounts: [] }, place, run, killed) };
}

test('a swap that is cut off is reversed at once, and fails with its own error', async () => {
  const { result, place } = cutOff('old');
  await expect(result).rejects.toMatchObject({ code: 'TREE_STALLED' });
  await checkWhole(directory, 'another', place);
});

test('a swap that was complete when it was cut off succeeds', async () => {
  expect(await cutOff('new', { kept: known('a') }).result).toEqual({ kept: known('a') });
  expect(await cutOff('new').result).toEqual({});
});

test('a swap that cannot be reversed blocks the volume', async () => {
  const { result, place } = cutOff('failed');
  const error: unknown = await result.catch((reason: unknown) => reason);
  expect(isHalfRestored(error)).toBe(true);
  expect(error).toMatchObject({ cause: { code: 'TREE_STALLED' } });
  await expect(checkWhole(directory, 'another', place)).rejects.toMatchObject({ code: 'TREE_HALF_RESTORED' });
  await checkWhole(directory, path.join(directory, 'a.ndjson'), place);
  await checkWhole(directory, 'another', { root: '/w', reach: { kind: 'process' } });
});

test('a swap that was cut off before its first move leaves the volume unchanged', async () => {
  const { result, place } = cutOff('failed', { moved: false });
  await expect(result).rejects.toMatchObject({ code: 'TREE_STALLED' });
  await checkWhole(directory, 'another', place);
});

test('a volume is found by its mount, wherever the agent has mounted it now', async () => {
  const mount = { type: 'volume', name: 'media', source: '/x', destination: '/media', writable: true } as Mount;
  const asked: unknown[] = [];
  const treeStore = {
    volume: async (job: { root: string }, { reach }: { reach: unknown }) => {
      asked.push([job.root, reach]);
      return { now: 'old', left: [] };
    },
  } as unknown as TreeStore;
  const journal = path.join(directory, 'journal');
  const entries = [{ ...volume('a'), mount } as JournalEntry];
  await undoVolumes({ treeStore, log: silentLog, agentMounts: [] }, entries, journal);
  await undoVolumes({ treeStore, log: silentLog, agentMounts: [{ ...mount, destination: '/here' }] }, entries, journal);
  expect(asked).toEqual([
    ['/source', { kind: 'helper', mount }],
    ['/here', { kind: 'process' }],
  ]);
});

test('files that were built alongside and cannot be removed do not block the volume', async () => {
  writeFileSync(path.join(directory, 'a.ndjson'), `${JSON.stringify(volume('a'))}\n`);
  await checkWhole(directory, 'another', { root: '/v', reach: { kind: 'process' } });
});

test('a volume whose swap is over is not half swapped, and its cleanup knows the data that is in place', async () => {
  const journal = path.join(directory, 'a.ndjson');
  const entries = [volume('a'), swapped('a'), { type: 'volume-ended', id: 'a', now: 'new' } as const];
  writeFileSync(journal, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
  await checkWhole(directory, 'another', { root: '/v', reach: { kind: 'process' } });
  const asked: unknown[] = [];
  const treeStore = {
    volume: async (job: object) => {
      asked.push(job);
      return { now: 'new', left: ['.lifeboat-before-x'], kept: known('a') };
    },
  } as unknown as TreeStore;
  const warned: unknown[] = [];
  const log = { ...silentLog, warn: (_: string, fields: unknown) => warned.push(fields) } as Log;
  const undone = await undoVolumes({ treeStore, log, agentMounts: [] }, entries, journal);
  expect(undone).toEqual({ done: true, now: 'new', kept: known('a') });
  const areas = { before: '5', list: 'sum', size: 3, ended: 'new' };
  expect(asked).toEqual([{ kind: 'undo', root: '/v', id: 'a', journal, areas }]);
  expect(warned).toEqual([{ volume: '/v', left: ['.lifeboat-before-x'] }]);
});

test('the volume does not correct a record; records of data that is gone are removed', async () => {
  expect(asInVolume(rollback('r'), [area('r')])).toEqual(rollback('r'));
  expect(asInVolume(rollback('r'), [area('y')])).toBeUndefined();
  // Recovery completes or removes it.
  const pending: Rollback = { ...rollback('p'), volume: { area: 'p' } };
  expect(asInVolume(pending, [])).toEqual(pending);

  const state = openState(directory);
  const others = [rollback('o', 'app.files'), { ...rollback('d'), volume: undefined, databases: [] }];
  await state.saveRollbacks([...others, rollback('gone'), rollback('r')] as Rollback[]);
  await refreshKeptVolume(state, 'web.media', [area('r')]);
  expect(await state.rollbacks()).toMatchObject([{ id: 'o' }, { id: 'd' }, rollback('r')]);

  // A restore that was taken back put nothing aside. A rollback that was taken back has another ID than its record.
  await withdrawKeptVolume(state, [volume('x')]);
  expect(await state.rollbacks()).toHaveLength(3);
  await withdrawKeptVolume(state, [volume('r'), volume('d')]);
  expect(await state.rollbacks()).toMatchObject([{ id: 'o' }, { id: 'd' }]);
});

/** Returns the lines of `lifeboat status`. */
async function statusLines(state: State, areas: VolumeArea[]): Promise<{ lines: string[]; asked: unknown[] }> {
  const planned = { kind: 'volume', name: 'web.media' } as unknown as VolumeSource;
  const plan = async () => ({ sources: [planned], problems: [] }) as unknown as Plan;
  const none = async () => {
    throw new Error('there is no server');
  };
  const asked: unknown[] = [];
  const read = async (_: unknown, __: unknown, recorded: unknown) => {
    asked.push(recorded);
    return areas;
  };
  const lines = keptLines(await listKeptRestores({ state, plan }, none, read), new Date('2026-11-20T03:00:00Z'));
  return { lines, asked };
}

test('a record of an area that exists is not dropped, and status says why the area is not recognised', async () => {
  const state = openState(directory);
  await state.saveRollbacks([rollback('r')]);
  const refused: VolumeArea = { ...area('r'), refused: 'its list of moves has changed' };
  await refreshKeptVolume(state, 'web.media', [refused]);
  expect(await state.rollbacks()).toEqual([rollback('r')]);
  const { lines, asked } = await statusLines(state, [refused]);
  expect(asked).toEqual([[known('r')]]);
  expect(lines).toEqual([
    expect.stringMatching(
      /\(r\): .*\.lifeboat-before-r has changed: its list of moves has changed; `lifeboat rollback r`/,
    ),
  ]);
  await refreshKeptVolume(state, 'web.media', []);
  expect(await state.rollbacks()).toEqual([]);
});

test('recovery completes the record of a restore or rollback whose exchange was complete', async () => {
  const state = openState(directory);
  await state.saveRollbacks([{ ...rollback('r'), volume: { area: 'r' } }, rollback('s')]);
  await completeKeptVolume(state, [
    volume('r'),
    { type: 'volume-areas', id: 'r', areas: { before: '4' } },
    swapped('r'),
  ]);
  expect(await state.rollbacks()).toEqual([rollback('r'), rollback('s')]);
  const begun = { type: 'begun', from: { id: 'r', inUse: 'restored' } } as JournalEntry;
  await completeKeptVolume(state, [begun, volume('b'), swapped('b')]);
  const now = { ...rollback('r'), inUse: 'before', volume: known('b') };
  expect(await state.rollbacks()).toEqual([now, rollback('s')]);
});

test('status shows that a deletion was interrupted, and how to complete it', async () => {
  const state = openState(directory);
  await state.saveRollbacks([{ ...rollback('r'), volume: { ...known('r'), forgotten: true } }, rollback('s')]);
  const { lines } = await statusLines(state, [area('r'), area('s')]);
  expect(lines).toEqual([
    expect.stringMatching(/\(s\): replaced data kept, 2 B$/),
    expect.stringMatching(/\(r\): deletion interrupted, 2 B left; `lifeboat rollback r --forget` completes it$/),
  ]);
});

test('put-aside data whose record is incomplete is neither brought back nor deleted', async () => {
  const place = { root: '/v', reach: { kind: 'process' as const } };
  const chosen = { id: 'r', volume: { area: 'r' } };
  const run = { id: 'b', journal: path.join(directory, 'b.ndjson'), signal: new AbortController().signal };
  const treeStore = {} as TreeStore;
  const code = 'NOTHING_TO_ROLL_BACK';
  await expect(checkRollBack({ treeStore }, place, chosen, run)).rejects.toMatchObject({ code });
  const begin = async () => undefined;
  await expect(forgetVolume(treeStore, place, chosen, { ...run, begin })).rejects.toMatchObject({ code });
});

test('a deletion is recorded once the data is recognised, and before anything is deleted', async () => {
  const place = { root: '/v', reach: { kind: 'process' as const } };
  const run = { id: 'b', journal: path.join(directory, 'b.ndjson'), signal: new AbortController().signal };
  const steps: unknown[] = [];
  let refuses = true;
  const treeStore = {
    volume: async (job: { check?: boolean; known: KnownArea }) => {
      if (refuses) throw new LifeboatError('TREE_TARGET_REFUSED', 'changed');
      steps.push(job.check === true, job.known.forgotten === true);
    },
  } as unknown as TreeStore;
  const begin = async (forgotten: KnownArea) => void steps.push(forgotten);
  const forget = () => forgetVolume(treeStore, place, { id: 'r', volume: known('r') }, { ...run, begin });
  await expect(forget()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  expect(steps).toEqual([]);
  refuses = false;
  await forget();
  expect(steps).toEqual([true, false, { ...known('r'), forgotten: true }, false, true]);
});

test('every --path must be in the snapshot, and the hint lists similar names', async () => {
  const entry = (at: string, type: IndexEntry['type']): IndexEntry => ({
    ...{ path: at, type, mode: 0o755, uid: 0, gid: 0, mtime: 0n },
    ...(type === 'file' ? { size: 0, sha256: '0'.repeat(64) } : {}),
  });
  const index = path.join(directory, 'index');
  const entries = [
    entry('', 'directory'),
    entry('uploads', 'directory'),
    entry('uploads/cat.png', 'file'),
    entry('uploads/dog.png', 'file'),
  ];
  writeFileSync(index, entries.map(encodeIndexEntry).join(''));
  for (const globs of [[], ['cat.png'], ['uploads'], ['uploads/**', '*.png'], ['/uploads/']])
    await checkPaths(globs, index);
  await expect(checkPaths(['*.png', 'uploads/kat.png'], index)).rejects.toMatchObject({
    code: 'PATH_UNKNOWN',
    hint: expect.stringMatching(/^Similar names: uploads\/cat\.png/),
  });
  await expect(checkPaths(['nothing-like-it'], index)).rejects.toMatchObject({
    hint: expect.stringContaining('lifeboat show'),
  });
});
