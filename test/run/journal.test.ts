import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
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
