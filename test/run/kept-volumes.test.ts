import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/errors.ts';
import { type JournalEntry, readJournal } from '../../src/journal.ts';
import { asInVolume, openVolumes, refreshKeptVolume, undoVolumes } from '../../src/kept-volumes.ts';
import { silentLog } from '../../src/log.ts';
import { checkPaths } from '../../src/restore-paths.ts';
import { openState, type Rollback } from '../../src/state.ts';
import { encodeIndexEntry, type IndexEntry } from '../../src/store/index-file.ts';
import type { VolumeArea } from '../../src/store/volume-areas.ts';
import type { TreeStore } from '../../src/tree-store.ts';

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

test('work on a volume that began and did not end is put right once, and tried again when that fails', async () => {
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
  expect(await undoVolumes({ treeStore, log: silentLog }, entries, journal)).toEqual({ done: false });
  failing = false;
  expect(await undoVolumes({ treeStore, log: silentLog }, entries, journal)).toEqual({ done: true, now: 'new' });
  const now = [...entries, ...(await readJournal(journal))];
  // What it came to is still known when the rest of the clean-up is tried again.
  expect(await undoVolumes({ treeStore, log: silentLog }, now, journal)).toEqual({ done: true, now: 'new' });
  expect(done).toEqual(['undo b']);
});

test('which data is in use is told by the area, not by what is remembered', async () => {
  expect(asInVolume(rollback('r'), [area('r', 'r', 'before')])).toEqual(rollback('r'));
  const turned = { ...rollback('r'), inUse: 'before', volume: { area: 'x' } };
  expect(asInVolume(rollback('r'), [area('y', 'q', 'before'), area('x', 'r', 'restored')])).toEqual(turned);
  expect(asInVolume(rollback('r'), [area('y', 'q', 'before')])).toBeUndefined();

  const state = openState(directory);
  const others = [rollback('o', 'app.files'), { ...rollback('d'), volume: undefined, databases: [] }];
  await state.saveRollbacks([...others, rollback('gone'), rollback('r')] as Rollback[]);
  await refreshKeptVolume(state, 'web.media', [area('x', 'r', 'restored')]);
  expect(await state.rollbacks()).toMatchObject([{ id: 'o' }, { id: 'd' }, turned]);
});

test('every --path has to be in the snapshot; names that come close are hinted at', async () => {
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
    hint: expect.stringMatching(/^Close to it: uploads\/cat\.png/),
  });
  await expect(checkPaths(['nothing-like-it'], index)).rejects.toMatchObject({
    hint: expect.stringContaining('lifeboat show'),
  });
});
