import fs, { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { openDatabases } from '../../src/kept/working-databases.ts';
import { appendJournal, Journal, journalObjects, openJournals, readJournal } from '../../src/run/journal.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-journal-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('entries are read back, with the process that began the journal', async () => {
  const journal = new Journal(directory, { type: 'start', verb: 'restore', id: '20261120T030000Z-4f1c9a' });
  journal.record({ type: 'object', key: 'a' });
  appendJournal(journal.file, { type: 'object', key: 'b\n"' });
  expect(await readJournal(journal.file)).toEqual([
    {
      type: 'start',
      verb: 'restore',
      id: '20261120T030000Z-4f1c9a',
      pid: process.pid,
      since: expect.stringMatching(/^\d+$/),
    },
    { type: 'object', key: 'a' },
    { type: 'object', key: 'b\n"' },
  ]);
  expect(await journalObjects(journal.file)).toEqual(['a', 'b\n"']);
  expect(statSync(journal.file).mode & 0o777).toBe(0o600);
});

test('a full disk prevents steps, and makes no failure of a step that is complete', async () => {
  const journal = new Journal(directory, { type: 'start', verb: 'restore', id: 'r1' });
  journal.record({ type: 'database', source: 'db.postgres', name: 'app__restoring_r1', what: 'restoring' });
  const full = vi.spyOn(fs, 'appendFileSync').mockImplementation(() => {
    throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
  });
  syncBuiltinESMExports();
  try {
    expect(() => journal.record({ type: 'object', key: 'a' })).toThrow('the spool has no space left');
    expect(journal.unwritten).toBeUndefined();
    journal.record({ type: 'database-done', source: 'db.postgres', name: 'app__restoring_r1' });
    expect(journal.unwritten).toMatchObject({ code: 'SPOOL_FULL' });
  } finally {
    full.mockRestore();
    syncBuiltinESMExports();
  }
  expect(openDatabases(await readJournal(journal.file)).size).toBe(1);
  expect(openDatabases(await journal.entries()).size).toBe(0);
});

test('a truncated line affects neither its neighbours nor later entries', async () => {
  const journal = new Journal(directory, { type: 'start', verb: 'restore', id: 'r1' });
  journal.record({ type: 'object', key: 'a' });
  appendFileSync(journal.file, '{"type":"object","key":"cu');
  journal.record({ type: 'object', key: 'b' });
  expect(await journalObjects(journal.file)).toEqual(['a', 'b']);
});

test('journals are open until they are closed, and listed oldest first', async () => {
  const [second, first] = ['20261121', '20261120'].map(
    (id) => new Journal(directory, { type: 'start', verb: 'restore', id }),
  );
  expect(await openJournals(directory)).toEqual([first?.file, second?.file]);
  await first?.close();
  await first?.close();
  expect(await openJournals(directory)).toEqual([second?.file]);
  expect(await openJournals(path.join(directory, 'new'))).toEqual([]);
  expect(readdirSync(directory)).toContain('new');
});
