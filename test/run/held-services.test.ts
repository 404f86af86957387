import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { heldProblems, heldServices } from '../../src/held-services.ts';
import { appendJournal, type JournalEntry } from '../../src/journal.ts';

const container = { id: 'c1', name: 'shop-web-1', project: 'shop', service: 'web' };

test.each<[string, JournalEntry[], string]>([
  ['old', [{ type: 'reported', reached: 'nothing' }], 'the data in place is that from before (RUN_DIED)'],
  ['new', [{ type: 'reported', reached: 'swapped' }], 'the data in place is the restored one, complete (RUN_DIED)'],
  ['unknown', [], 'which data is in place is not known yet (RUN_DIED)'],
])('a container that a dead restore holds is shown with its data: %s', async (data, more, text) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-held-'));
  const file = path.join(directory, 'r1.ndjson');
  const entries: JournalEntry[] = [{ type: 'start', verb: 'restore', id: 'r1' }, { type: 'stop', container }, ...more];
  for (const entry of entries) appendJournal(file, entry);
  const held = await heldServices(directory, false);
  expect(held).toEqual([{ container: 'shop-web-1', run: 'r1', verb: 'restore', waitsFor: 'start', data }]);
  expect(heldProblems(held).map(({ message, code }) => `${message} (${code})`)).toEqual([
    `it is stopped, or being stopped, and not started again yet, after restore r1 has ended; ${text}`,
  ]);
  // The journal of a run that is under way.
  expect(await heldServices(directory, true)).toEqual([]);
  appendJournal(file, { type: 'started', container });
  expect(await heldServices(directory, false)).toEqual([]);
  rmSync(directory, { recursive: true });
});
