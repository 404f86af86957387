import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { heldProblems, heldServices } from '../../src/daemon/held-services.ts';
import { appendJournal, type JournalEntry, processStart } from '../../src/run/journal.ts';
import { type Here, runsUnderWay, stoppedByRuns } from '../../src/run/under-way.ts';

const container = { id: 'c1', name: 'shop-web-1', project: 'shop', service: 'web' };

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-held-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const write = (id: string, start: object, ...more: JournalEntry[]) => {
  const entries = [
    { type: 'start', verb: 'restore', id, ...start } as JournalEntry,
    { type: 'stop', container },
    ...more,
  ];
  for (const entry of entries as JournalEntry[]) appendJournal(path.join(directory, `${id}.ndjson`), entry);
};
const look = async (here: Here = { agentId: 'a1' }) => heldServices(directory, await runsUnderWay(directory, here));

test.each<[string, JournalEntry[], string]>([
  ['old', [{ type: 'reported', reached: 'nothing' }], 'the old data is in place (RUN_DIED)'],
  ['new', [{ type: 'reported', reached: 'swapped' }], 'the restored data is in place, and complete (RUN_DIED)'],
  ['unknown', [], 'it is not known yet which data is in place (RUN_DIED)'],
])('a container that a crashed restore holds is shown with its data: %s', async (data, more, text) => {
  write('r1', {}, ...more);
  const held = await look();
  expect(held).toEqual([{ container: 'shop-web-1', run: 'r1', verb: 'restore', waitsFor: 'start', data }]);
  expect(heldProblems(held).map(({ message, code }) => `${message} (${code})`)).toEqual([
    `it is still stopped, or being stopped, although restore r1 has ended; ${text}`,
  ]);
  write('r1', {}, { type: 'started', container });
  expect(await look()).toEqual([]);
});

/** The id of a process that has ended. */
async function endedProcess(): Promise<number> {
  const child = spawn('true');
  await once(child, 'exit');
  return child.pid ?? 0;
}

const me = { agent: 'a1', pid: process.pid, since: processStart(process.pid) };

test.each<[string, () => object | Promise<object>, JournalEntry[], string[]]>([
  ['of this process', () => me, [], []],
  [
    'whose process has ended, while recovery holds the lock',
    async () => ({ ...me, pid: await endedProcess() }),
    [],
    ['r1'],
  ],
  ['whose process id another process has now', () => ({ ...me, since: '1' }), [], ['r1']],
  ['that was reported, and is being undone by this process', () => me, [{ type: 'reported' }], ['r1']],
  ['of an agent that is gone', () => ({ ...me, agent: 'a2' }), [], ['r1']],
  ['of another agent that runs, and shares the spool', () => ({ agent: 'other', pid: 1 }), [], []],
  [
    'by an earlier version, which did not note when its process started',
    () => ({ agent: 'a1', pid: process.pid }),
    [],
    [],
  ],
])('a container that is held by a run %s', async (_, start, more, shown) => {
  write('r1', await start(), ...more);
  const held = await look({ agentId: 'a1', isRunning: async (agent) => agent === 'other' });
  expect(held.map(({ run }) => run)).toEqual(shown);
});

test('a container counts as stopped by a run only until that run ends or starts it again', async () => {
  const stopped = async () => [...(await stoppedByRuns(directory, { agentId: 'a1' }))];
  write('r1', {}, { type: 'reported' });
  expect(await stopped()).toEqual([]);
  write('r2', me);
  expect(await stopped()).toEqual(['c1']);
  appendJournal(path.join(directory, 'r2.ndjson'), { type: 'started', container });
  expect(await stopped()).toEqual([]);
});

test('a running run does not hide containers that an older or a newer run left stopped', async () => {
  write('r1', {}, { type: 'reported' });
  write('r2', me);
  write('r3', {}, { type: 'reported' });
  expect((await look()).map(({ run }) => run)).toEqual(['r1', 'r3']);
});
