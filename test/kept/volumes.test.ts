import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { keptLines, listKeptRestores } from '../../src/kept/list.ts';
import {
  areasOf,
  asInVolume,
  completeKeptVolume,
  refreshKeptVolume,
  withdrawKeptVolume,
} from '../../src/kept/volume-records.ts';
import { checkWhole, isHalfRestored, openVolumes, orTakenBack, undoVolumes } from '../../src/kept/volumes.ts';
import type { Mount, Plan, VolumeSource } from '../../src/plan/model.ts';
import { checkPaths } from '../../src/restore/paths.ts';
import { appendJournal, type JournalEntry, readJournal } from '../../src/run/journal.ts';
import { openState, type Rollback } from '../../src/run/state.ts';
import type { VolumeArea } from '../../src/store/exchange/list-areas.ts';
import { encodeIndexEntry, type IndexEntry } from '../../src/store/filesystem/index-file.ts';
import type { TreeStore } from '../../src/trees/runner.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-kept-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const volume = (id: string): JournalEntry => ({ type: 'volume', id, root: '/v', reach: { kind: 'process' } });
const area = (id: string, restore: string, holds: 'before' | 'restored'): VolumeArea => ({
  ...{ kind: 'before', id, restore, holds },
  ...{ files: 1, bytes: 2 },
});
const rollback = (id: string, source = 'web.media'): Rollback => ({
  ...{ id, at: '2026-11-20T03:00:00Z', source, snapshot: 's' },
  ...{ inUse: 'restored', volume: { area: id } },
});

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
      return { now: 'new' };
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
function cutOff(
  undone: 'old' | 'new' | 'failed',
  { areas = [], moved = true }: { areas?: VolumeArea[]; moved?: boolean } = {},
) {
  const journal = path.join(directory, 'a.ndjson');
  writeFileSync(journal, `${JSON.stringify(volume('a'))}\n`);
  const treeStore = {
    volume: async (job: { kind: string }) => {
      if (job.kind === 'areas') return areas;
      if (undone === 'failed') throw new LifeboatError('HELPER_FAILED', 'no helper');
      return { now: undone };
    },
  } as unknown as TreeStore;
  const place = { root: '/v', reach: { kind: 'process' as const } };
  const run = { id: 'a', journal, signal: new AbortController().signal };
  const killed = async () => {
    if (moved) appendJournal(journal, { type: 'volume-swap', id: 'a', area: '5', list: 'sum' });
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
  expect(await cutOff('new', { areas: [area('a', 'a', 'before')] }).result).toEqual({
    kept: { area: 'a', inode: '5', list: 'sum' },
  });
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
      return { now: 'old' };
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

test('the area shows which data is in use, not the record', async () => {
  expect(asInVolume(rollback('r'), [area('r', 'r', 'before')])).toEqual(rollback('r'));
  const turned = { ...rollback('r'), inUse: 'before', volume: { area: 'x' } };
  expect(asInVolume(rollback('r'), [area('y', 'q', 'before'), area('x', 'r', 'restored')])).toEqual(turned);
  expect(asInVolume(rollback('r'), [area('y', 'q', 'before')])).toBeUndefined();

  const state = openState(directory);
  const others = [rollback('o', 'app.files'), { ...rollback('d'), volume: undefined, databases: [] }];
  await state.saveRollbacks([...others, rollback('gone'), rollback('r')] as Rollback[]);
  await refreshKeptVolume(state, 'web.media', [area('x', 'r', 'restored')]);
  expect(await state.rollbacks()).toMatchObject([{ id: 'o' }, { id: 'd' }, turned]);

  // A restore that was taken back put nothing aside. A rollback that was taken back has another ID than its record.
  await withdrawKeptVolume(state, [volume('x')]);
  expect(await state.rollbacks()).toHaveLength(3);
  await withdrawKeptVolume(state, [volume('r'), volume('d')]);
  expect(await state.rollbacks()).toMatchObject([{ id: 'o' }, { id: 'd' }]);
});

test('a record of an area that exists is not dropped, and status says why the area is not recognised', async () => {
  const state = openState(directory);
  const known = { area: 'r', inode: '5', list: 'sum' };
  await state.saveRollbacks([{ ...rollback('r'), volume: known }, rollback('s')]);
  const refused: VolumeArea = { kind: 'before', id: 'r', files: 0, bytes: 0, refused: 'its list of moves has changed' };
  // The deletion of the second one was interrupted, and its list is gone.
  const half: VolumeArea = { kind: 'before', id: 's', files: 0, bytes: 0, forgotten: true };
  await refreshKeptVolume(state, 'web.media', [refused, half]);
  expect(await state.rollbacks()).toEqual([{ ...rollback('r'), volume: known }, rollback('s')]);
  const planned = { kind: 'volume', name: 'web.media' } as unknown as VolumeSource;
  const plan = async () => ({ sources: [planned], problems: [] }) as unknown as Plan;
  const asked: unknown[] = [];
  const areas = async (_: unknown, __: unknown, recorded: unknown) => {
    asked.push(recorded);
    return [refused, half];
  };
  const none = async () => {
    throw new Error('there is no server');
  };
  const lines = keptLines(await listKeptRestores({ state, plan }, none, areas), new Date('2026-11-20T03:00:00Z'));
  expect(asked).toEqual([[{ area: 's' }, known]]);
  expect(lines).toEqual([
    expect.stringMatching(/\(s\): deletion interrupted/),
    expect.stringMatching(
      /\(r\): .*\.lifeboat-before-r has changed: its list of moves has changed; `lifeboat rollback r`/,
    ),
  ]);
  await refreshKeptVolume(state, 'web.media', []);
  expect(await state.rollbacks()).toEqual([]);
});

test('recovery completes the record of a restore or rollback whose exchange was complete', async () => {
  const state = openState(directory);
  await state.saveRollbacks([rollback('r'), rollback('s')]);
  const swapped: JournalEntry = { type: 'volume-swap', id: 'r', area: '5', list: 'sum' };
  await completeKeptVolume(state, [volume('r'), { type: 'volume-areas', id: 'r', areas: { before: '4' } }, swapped]);
  const known = { area: 'r', inode: '5', list: 'sum' };
  expect(await state.rollbacks()).toEqual([{ ...rollback('r'), volume: known }, rollback('s')]);
  const begun = { type: 'begun', from: { id: 'r', inUse: 'restored' } } as JournalEntry;
  const back: JournalEntry = { type: 'volume-swap', id: 'b', area: '6', list: 'other' };
  await completeKeptVolume(state, [begun, volume('b'), back]);
  const now = { ...rollback('r'), inUse: 'before', volume: { area: 'b', inode: '6', list: 'other' } };
  expect(await state.rollbacks()).toEqual([now, rollback('s')]);
  // An older version recorded no list.
  await completeKeptVolume(state, [volume('s'), { type: 'volume-swap', id: 's', area: '7' }]);
  expect(await state.rollbacks()).toEqual([now, rollback('s')]);
  expect(areasOf([{ type: 'volume-swap', id: 's', area: '7' }], 's')).toEqual({ before: '7', list: '' });
});

test('status shows that a deletion was interrupted, and how to complete it', async () => {
  const state = openState(directory);
  await state.saveRollbacks([rollback('r'), rollback('s')]);
  const planned = { kind: 'volume', name: 'web.media' } as unknown as VolumeSource;
  const plan = async () => ({ sources: [planned], problems: [] }) as unknown as Plan;
  const areas = async () => [{ ...area('r', 'r', 'before'), forgotten: true as const }, area('s', 's', 'before')];
  const none = async () => {
    throw new Error('there is no server');
  };
  const lines = keptLines(await listKeptRestores({ state, plan }, none, areas), new Date('2026-11-20T03:00:00Z'));
  expect(lines).toEqual([
    expect.stringMatching(/\(s\): replaced data kept, 2 B$/),
    expect.stringMatching(/\(r\): deletion interrupted, 2 B left; `lifeboat rollback r --forget` completes it$/),
  ]);
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
