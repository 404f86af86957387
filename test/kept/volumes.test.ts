import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { type Log, silentLog } from '../../src/base/log.ts';
import { keptLines, listKept } from '../../src/kept/list.ts';
import { halfSwapped, openVolumes, recoverVolumes, undoVolumes } from '../../src/kept/undo-volumes.ts';
import {
  areasOf,
  asInVolume,
  completeKeptVolume,
  refreshKeptVolume,
  strayAreas,
  withdrawKeptVolume,
} from '../../src/kept/volume-records.ts';
import { checkRollBack, checkWhole, forgetVolume, isHalfRestored, orTakenBack } from '../../src/kept/volumes.ts';
import type { Mount, Plan, VolumeSource } from '../../src/plan/model.ts';
import { checkPaths } from '../../src/restore/paths.ts';
import { appendJournal, type JournalEntry, readJournal } from '../../src/run/journal.ts';
import { openState, type Rollback } from '../../src/run/state.ts';
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
const area = (id: string): VolumeArea => ({ kind: 'before', id, files: 1, bytes: 2 });
const knownArea = (id: string): KnownArea => ({ area: id, identity: '5', list: 'sum', size: 3, root: '2@1' });
const showing = (id: string, restore: string, holds: 'before' | 'restored'): VolumeArea => ({
  ...area(id),
  shows: { restore, holds, at: '2026-11-20T03:00:00Z', known: knownArea(id) },
});
const swapped = (id: string): JournalEntry => ({
  ...{ type: 'volume-swap', id, area: '5' },
  ...{ list: 'sum', size: 3, root: '2@1' },
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
      return { now: 'new', left: [] };
    },
  } as unknown as TreeStore;
  expect(await undoVolumes({ treeStore, log: silentLog, agentMounts: [] }, entries, { journal })).toEqual({
    done: false,
  });
  failing = false;
  expect(await undoVolumes({ treeStore, log: silentLog, agentMounts: [] }, entries, { journal })).toEqual({
    done: true,
    now: 'new',
  });
  const now = [...entries, ...(await readJournal(journal))];
  // The result is still known when the rest of the cleanup is retried.
  expect(await undoVolumes({ treeStore, log: silentLog, agentMounts: [] }, now, { journal })).toEqual({
    done: true,
    now: 'new',
  });
  expect(done).toEqual(['undo b']);
});

const open = async () => new Set<string>();

/** A volume in which an exchange is cut off, and the result of its reversal. */
function cutOff(undone: 'old' | 'new' | 'failed', { kept, moved = true, full = false } = {} as CutOff) {
  const journal = path.join(directory, 'a.ndjson');
  writeFileSync(journal, `${JSON.stringify(volume('a'))}\n`);
  const steps: unknown[] = [];
  const treeStore = {
    volume: async (job: { kind: string }) => {
      // The helper of any further job cannot be started.
      if (undone === 'failed' || job.kind !== 'undo') throw new LifeboatError('HELPER_FAILED', 'no helper');
      return { now: undone, left: [], ...(kept === undefined ? {} : { kept }) };
    },
  } as unknown as TreeStore;
  const place = { root: '/v', reach: { kind: 'process' as const } };
  const run = { id: 'a', journal, signal: new AbortController().signal };
  const exchange = async () => {
    if (moved) appendJournal(journal, swapped('a'));
    throw new LifeboatError('TREE_STALLED', 'killed');
  };
  const save = async (saved: unknown) => {
    if (full) throw new LifeboatError('SPOOL_FULL', 'the spool is full');
    steps.push(saved ?? 'nothing', ...openVolumes(await readJournal(journal)).map(({ id }) => `${id} is open`));
  };
  const withdraw = async () => void steps.push('withdrawn');
  const deps = { treeStore, log: silentLog, agentMounts: [] };
  return { place, steps, journal, result: orTakenBack(deps, place, run, { exchange, save, withdraw }) };
}

interface CutOff {
  kept?: boolean;
  moved?: boolean;
  full?: boolean;
}

test('a swap that is cut off is reversed at once, and fails with its own error', async () => {
  const { result, place, steps, journal } = cutOff('old');
  await expect(result).rejects.toMatchObject({ code: 'TREE_STALLED' });
  expect(steps).toEqual(['withdrawn']);
  expect(openVolumes(await readJournal(journal))).toEqual([]);
  await checkWhole(directory, 'another', place);
});

const KNOWN = knownArea('a');

test('a swap that was complete when it was cut off succeeds, and its record is saved before the journal ends', async () => {
  const { result, steps, journal } = cutOff('new', { kept: true });
  expect(await result).toEqual({ kept: KNOWN, warnings: [] });
  expect(steps).toEqual([KNOWN, 'a is open']);
  expect((await readJournal(journal)).at(-1)).toEqual({ type: 'volume-done', id: 'a', now: 'new' });
  const nothing = cutOff('new', { kept: false });
  expect(await nothing.result).toEqual({ warnings: [] });
  expect(nothing.steps).toEqual(['nothing', 'a is open']);
});

test('a record that cannot be saved does not fail a swap: recovery completes it, although services run', async () => {
  const { result, journal, place } = cutOff('new', { kept: true, full: true });
  const warnings = [expect.stringMatching(/record of the old data could not be saved: the spool is full/)];
  expect(await result).toEqual({ kept: KNOWN, warnings });
  appendJournal(journal, { type: 'volume-ended', id: 'a', now: 'new', kept: true });
  const begun = { type: 'begun', restore: {}, from: { id: 'r', inUse: 'restored' } } as unknown as JournalEntry;
  const entries = [begun, ...(await readJournal(journal))];
  expect(openVolumes(entries)).toHaveLength(1);
  // The volume is whole: nothing else waits for the record.
  expect(halfSwapped(entries)).toEqual([]);
  await checkWhole(directory, 'another', place);
  const state = openState(path.join(directory, 'state'));
  await state.saveRollbacks([rollback('r')]);
  const treeStore = { volume: async () => ({ now: 'new', kept: true, left: [] }) } as unknown as TreeStore;
  const deps = { treeStore, log: silentLog, agentMounts: [], state };
  const failing = { ...state, saveRollbacks: () => Promise.reject(new LifeboatError('SPOOL_FULL', 'still full')) };
  expect(await recoverVolumes({ ...deps, state: failing }, entries, journal)).toEqual({ done: false, now: 'new' });
  expect(openVolumes(await readJournal(journal))).toHaveLength(1);
  expect(await recoverVolumes(deps, entries, journal)).toEqual({ done: true, now: 'new' });
  expect(await state.rollbacks()).toEqual([{ ...rollback('r'), inUse: 'before', volume: KNOWN }]);
  expect(openVolumes(await readJournal(journal))).toEqual([]);
  // A later rollback is not overwritten while the journal is still open for another reason.
  await state.saveRollbacks([{ ...rollback('r'), volume: { area: 'later' } }]);
  await recoverVolumes(deps, [begun, ...(await readJournal(journal))], journal);
  expect(await state.rollbacks()).toEqual([{ ...rollback('r'), volume: { area: 'later' } }]);
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
  await undoVolumes({ treeStore, log: silentLog, agentMounts: [] }, entries, { journal });
  await undoVolumes({ treeStore, log: silentLog, agentMounts: [{ ...mount, destination: '/here' }] }, entries, {
    journal,
  });
  expect(asked).toEqual([
    ['/source', { kind: 'helper', mount }],
    ['/here', { kind: 'process' }],
  ]);
});

test('files that were built alongside and cannot be removed do not block the volume', async () => {
  writeFileSync(path.join(directory, 'a.ndjson'), `${JSON.stringify(volume('a'))}\n`);
  await checkWhole(directory, 'another', { root: '/v', reach: { kind: 'process' } });
});

test('a volume completes a record that was saved before its exchange, and never changes a complete one', async () => {
  const shown = showing('r', 'r', 'before');
  const complete = { ...rollback('r'), volume: knownArea('r') };
  expect(asInVolume(rollback('r'), [shown])).toEqual(complete);
  const forged = showing('x', 'r', 'restored');
  expect(asInVolume(complete, [forged, showing('r', 'other', 'restored')])).toEqual(complete);
  // Nothing was put aside yet.
  expect(asInVolume(rollback('r'), [forged])).toBeUndefined();

  const state = openState(directory);
  const others = [rollback('o', 'app.files'), { ...rollback('d'), volume: undefined, databases: [] }];
  await state.saveRollbacks([...others, rollback('gone'), rollback('r')] as Rollback[]);
  await refreshKeptVolume(state, { source: 'web.media' }, [shown]);
  expect(await state.rollbacks()).toMatchObject([{ id: 'o' }, { id: 'd' }, complete]);

  // A restore that was taken back put nothing aside. A rollback that was taken back has another ID than its record.
  await withdrawKeptVolume(state, 'x');
  expect(await state.rollbacks()).toHaveLength(3);
  await withdrawKeptVolume(state, 'r');
  await withdrawKeptVolume(state, 'd');
  expect(await state.rollbacks()).toMatchObject([{ id: 'o' }, { id: 'd' }]);
});

test('a record whose data is not found stays, with the reason, until somebody forgets it', async () => {
  const state = openState(directory);
  const known = knownArea('r');
  await state.saveRollbacks([{ ...rollback('r'), volume: known }]);
  for (const missing of ['area', 'volume'] as const) {
    const found = await refreshKeptVolume(state, { source: 'web.media' }, [
      { kind: 'before', id: 'r', files: 0, bytes: 0, missing },
    ]);
    expect(found).toEqual(new Map([['r', missing]]));
    expect(await state.rollbacks()).toEqual([{ ...rollback('r'), volume: known }]);
  }
  expect(await refreshKeptVolume(state, { source: 'web.media' }, [area('r')])).toEqual(new Map());
});

test('after the loss of the spool, areas that only Lifeboat can have made get records again', async () => {
  const proven = showing('b', 'r', 'restored');
  const twice = ['c', 'd'].map((id) => showing(id, 'twice', 'restored'));
  const forged: VolumeArea = { kind: 'before', id: 'e', files: 0, bytes: 0, unproven: 'user 33 owns it' };
  const building: VolumeArea = { kind: 'restoring', id: 'f', files: 0, bytes: 0 };
  const areas = [proven, ...twice, forged, building];
  const state = openState(directory);
  const once = {
    ...rollback('r'),
    snapshot: '',
    inUse: 'before',
    volume: knownArea('b'),
  };
  await refreshKeptVolume(state, { source: 'web.media' }, areas);
  expect(await state.rollbacks()).toEqual([once]);
  await refreshKeptVolume(state, { source: 'web.media' }, areas);
  expect(await state.rollbacks()).toEqual([once]);
  const stray = strayAreas('web.media', areas, { all: await state.rollbacks(), open: new Set(['f']) });
  expect(stray.map(({ id }) => id)).toEqual(['c', 'd', 'e']);
});

test('a record of an area that exists is not dropped, and status says why the area is not recognised', async () => {
  const state = openState(directory);
  const known = knownArea('r');
  const forgotten: Rollback = { ...rollback('s'), volume: { ...knownArea('s'), forgotten: true } };
  await state.saveRollbacks([{ ...rollback('r'), volume: known }, forgotten]);
  const refused: VolumeArea = { kind: 'before', id: 'r', files: 0, bytes: 0, refused: 'its list of moves has changed' };
  // The deletion of the second one was interrupted.
  const half = area('s');
  await refreshKeptVolume(state, { source: 'web.media' }, [refused, half]);
  expect(await state.rollbacks()).toEqual([{ ...rollback('r'), volume: known }, forgotten]);
  const planned = { kind: 'volume', name: 'web.media', mount: {} } as unknown as VolumeSource;
  const plan = async () => ({ sources: [planned], problems: [] }) as unknown as Plan;
  const asked: unknown[] = [];
  const areas = async (_: unknown, __: unknown, recorded: unknown) => {
    asked.push(recorded);
    return [refused, half];
  };
  const none = async () => {
    throw new Error('there is no server');
  };
  const lines = keptLines(await listKept({ state, plan, open }, none, areas), new Date('2026-11-20T03:00:00Z'));
  expect(asked).toEqual([[forgotten.volume, known]]);
  expect(lines).toEqual([
    expect.stringMatching(/\(s\): deletion interrupted/),
    expect.stringMatching(
      /\(r\): .*\.lifeboat-before-r has changed: its list of moves has changed; `lifeboat rollback r`/,
    ),
  ]);
});

test('recovery completes the record of a restore or rollback whose exchange was complete', async () => {
  const state = openState(directory);
  await state.saveRollbacks([rollback('r'), rollback('s')]);
  const made: JournalEntry = { type: 'volume-areas', id: 'r', areas: { before: '4', root: '2@1' } };
  await completeKeptVolume(state, [volume('r'), made, swapped('r')], { id: 'r', kept: true });
  expect(await state.rollbacks()).toEqual([{ ...rollback('r'), volume: knownArea('r') }, rollback('s')]);
  const begun = { type: 'begun', from: { id: 'r', inUse: 'restored' } } as JournalEntry;
  await completeKeptVolume(state, [begun, volume('b'), swapped('b')], { id: 'b' });
  const now = { ...rollback('r'), inUse: 'before', volume: knownArea('b') };
  expect(await state.rollbacks()).toEqual([now, rollback('s')]);
  // Nothing was put aside.
  await completeKeptVolume(state, [volume('s'), swapped('s')], { id: 's', kept: false });
  expect(await state.rollbacks()).toEqual([now]);
  const ended: JournalEntry = { type: 'volume-ended', id: 's', now: 'new', kept: true };
  expect(areasOf([swapped('s'), ended], 's')).toEqual({
    ...{ before: '5', list: 'sum', size: 3, root: '2@1' },
    ended: { now: 'new', kept: true },
  });
});

test('status shows that a deletion was interrupted, and how to complete it', async () => {
  const state = openState(directory);
  const forgotten: Rollback = { ...rollback('r'), volume: { ...knownArea('r'), forgotten: true } };
  await state.saveRollbacks([forgotten, { ...rollback('s'), volume: knownArea('s') }]);
  const planned = { kind: 'volume', name: 'web.media', mount: {} } as unknown as VolumeSource;
  const plan = async () => ({ sources: [planned], problems: [] }) as unknown as Plan;
  const areas = async () => [area('r'), area('s')];
  const none = async () => {
    throw new Error('there is no server');
  };
  const lines = keptLines(await listKept({ state, plan, open }, none, areas), new Date('2026-11-20T03:00:00Z'));
  expect(lines).toEqual([
    expect.stringMatching(/\(s\): replaced data kept, 2 B$/),
    expect.stringMatching(/\(r\): deletion interrupted, 2 B left; `lifeboat rollback r --forget` completes it$/),
  ]);
});

test('old data whose record is incomplete is neither brought back nor deleted', async () => {
  const place = { root: '/v', reach: { kind: 'process' as const } };
  const run = { id: 'b', journal: path.join(directory, 'b.ndjson'), signal: new AbortController().signal };
  const treeStore = {} as TreeStore;
  const code = 'NOTHING_TO_ROLL_BACK';
  await expect(checkRollBack({ treeStore }, place, rollback('r'), run)).rejects.toMatchObject({ code });
  const begin = async () => undefined;
  await expect(forgetVolume(treeStore, place, rollback('r'), { ...run, begin })).rejects.toMatchObject({ code });
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
  const forget = () => forgetVolume(treeStore, place, { id: 'r', volume: knownArea('r') }, { ...run, begin });
  await expect(forget()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  expect(steps).toEqual([]);
  refuses = false;
  await forget();
  expect(steps).toEqual([true, false, { ...knownArea('r'), forgotten: true }, false, true]);
});

test('directories that an exchange leaves in a volume are named', async () => {
  const journal = path.join(directory, 'journal');
  writeFileSync(journal, '');
  const treeStore = { volume: async () => ({ now: 'old', left: ['.lifeboat-before-x'] }) } as unknown as TreeStore;
  const warned: unknown[] = [];
  const log = { ...silentLog, warn: (_: string, fields: unknown) => warned.push(fields) } as Log;
  await undoVolumes({ treeStore, log, agentMounts: [] }, [volume('a'), swapped('a')], { journal });
  expect(warned).toEqual([{ volume: '/v', left: ['.lifeboat-before-x'] }]);
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
