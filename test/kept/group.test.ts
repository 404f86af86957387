import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { isGroupHalf } from '../../src/kept/group.ts';
import { Journal, type JournalEntry } from '../../src/run/journal.ts';

let journals: string;
beforeEach(() => {
  journals = mkdtempSync(path.join(tmpdir(), 'lifeboat-group-'));
});
afterEach(() => rmSync(journals, { recursive: true }));

const GROUP = '20261120T030000Z-ffffff';
const SOURCE = '20261120T030000Z-000001';
const volume: JournalEntry = { type: 'volume', id: SOURCE, root: '/volume', reach: { kind: 'process' } };
const swap: JournalEntry = { type: 'volume-swap', id: SOURCE, area: '5', list: 'sum', size: 3, root: '2' };
const done: JournalEntry = { type: 'volume-done', id: SOURCE, now: 'old' };

function journalOf(id: string, group: string | undefined, entries: JournalEntry[] = []): Journal {
  const own = group === undefined ? {} : { group };
  const journal = new Journal(journals, { type: 'start', verb: 'restore', id, agent: 'a1', ...own });
  for (const entry of entries) journal.record(entry);
  return journal;
}

it.each<[string, string | undefined, JournalEntry[], boolean]>([
  ['a swap that was cut off', GROUP, [volume, swap], true],
  ['a volume that is not swapped yet', GROUP, [volume], false],
  ['a swap that is complete or reversed', GROUP, [volume, swap, done], false],
  ['a swap that was cut off in a restore of its own', undefined, [volume, swap], false],
  ['a swap that was cut off in another group', '20261120T040000Z-ffffff', [volume, swap], false],
])('the group waits for a volume that is neither old nor new: %s', async (_, group, entries, expected) => {
  journalOf(SOURCE, group, entries);
  expect(await isGroupHalf(journals, journalOf(GROUP, GROUP).file)).toBe(expected);
});

it('a restore of one source waits for no other', async () => {
  journalOf(SOURCE, GROUP, [volume, swap]);
  expect(await isGroupHalf(journals, journalOf('20261120T050000Z-000001', undefined).file)).toBe(false);
});

it('the group waits as long as one of several volumes is half swapped', async () => {
  journalOf(SOURCE, GROUP, [volume, swap, done]);
  const other = '20261120T030000Z-000002';
  journalOf(other, GROUP, [
    { ...volume, id: other },
    { ...swap, id: other },
  ]);
  expect(await isGroupHalf(journals, journalOf(GROUP, GROUP).file)).toBe(true);
});
