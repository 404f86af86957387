import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { accept } from '../../src/commands/accept.ts';
import type { Call } from '../../src/commands/call.ts';
import { status } from '../../src/commands/status.ts';
import type { RunEvent, SourceReport } from '../../src/report/events.ts';
import { plainPaint } from '../../src/report/paint.ts';
import { earlierOf } from '../../src/report/tries.ts';
import { openState, type State } from '../../src/run/state.ts';
import { makeFailure, makeReport, makeResult } from '../report/fixtures.ts';
import { scratchBase } from '../store/helpers.ts';

/** `accept` ends what it accepts at once. The state is real, the containers and the destination are not. */

const NIGHTLY = '0 3 * * *';
const MINUTE = 60_000;
/** The first try ended ten minutes ago. */
const END = new Date(Date.now() - 10 * MINUTE).toISOString();
const RUN = '20261120T030000Z-4f1c9a';

let root: string;
let state: State;
let sent: RunEvent[];
/** names of the planned sources */
let planned: string[];

beforeEach(() => {
  root = mkdtempSync(path.join(scratchBase, 'lifeboat-accept-'));
  state = openState(root);
  sent = [];
  planned = ['db.postgres'];
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const gone = makeFailure({
  ...{ name: 'web.media', kind: 'volume' },
  error: { code: 'SOURCE_VANISHED', message: 'web.media was backed up before and is not there any more' },
});
const good = makeResult({ name: 'db.postgres', kind: 'postgres' });

/** Saves a first try that failed in part and waits for the next one. */
async function failed(
  results: SourceReport[],
  quiet = true,
  { after, ahead = 0 }: { after?: number; ahead?: number } = {},
) {
  const sources = results.map(({ name }) => name).filter((name) => planned.includes(name));
  const retry = { at: new Date(Date.now() + MINUTE).toISOString(), quiet };
  const end = new Date(Date.parse(END) + ahead).toISOString();
  const times = { start: end, end, ...(after === undefined ? {} : { after }) };
  const own = makeReport({ id: RUN, status: 'partial', results, sources, ...times, retry, previousStatus: 'ok' });
  await state.saveLastRun(own);
  const earlier = { ...earlierOf(own, []), runs: [RUN] };
  await state.saveRetries([
    { schedules: [NIGHTLY], since: end, tries: 1, at: retry.at, earlier, ...(quiet ? { unreported: true } : {}) },
  ]);
}

function call(...operands: string[]): Call & { said: () => string } {
  const entry = { status: 'ok', kind: 'volume', bytes: 1, files: 1, packs: [] };
  const sources = { 'web.media': entry, 'db.postgres': { ...entry, kind: 'postgres' } };
  const manifest = { id: '20261119T030000Z-aaaaaa', end: END, sequence: 1, trigger: 'schedule', sources };
  const list = { snapshots: [{ manifest }], damaged: [] };
  const repository = { project: 'shop', destination: { name: '/backups' }, snapshots: async () => list, seen: [] };
  let out = '';
  const app = {
    ...{
      project: 'shop',
      destination: { name: '/backups' },
      limitedPlaces: [],
      state,
      log: silentLog,
      now: () => new Date(),
    },
    settings: { timeZone: 'UTC', copies: [] },
    plan: async () => ({
      ...{ project: 'shop', problems: [] },
      sources: planned.map((name) => ({
        name,
        schedule: NIGHTLY,
        kind: name.endsWith('postgres') ? 'postgres' : 'volume',
      })),
    }),
    probe: async () => ({ empty: ['web.media'] }),
    repository: async () => repository,
    lock: async () => ({ release: async () => undefined }),
    own: { look: async () => ({ repository }) },
    notifiers: [{ name: 'test', handle: async (event: RunEvent) => void sent.push(event) }],
    nextRun: () => new Date(Date.now() + 60 * MINUTE),
    runsUnderWay: async () => [],
    listKept: async () => ({ restores: [], stray: [] }),
    journals: '/nowhere',
  };
  const io = { out: (text: string) => (out += text), paint: plainPaint, signal: new AbortController().signal };
  return { app, io, operands, options: {}, json: false, said: () => out } as never;
}

async function shown() {
  const asked = call();
  return { code: await status(asked), text: asked.said() };
}

test('the acceptance of a source that is gone ends the alarm and the retry, and the run is reported', async () => {
  await failed([good, gone]);
  expect(await shown()).toMatchObject({ code: 3, text: expect.stringMatching(/web\.media(.|\n)*next attempt/) });
  expect(await accept(call('web.media'))).toBe(0);
  const { code, text } = await shown();
  expect({ code, text }).toMatchObject({ code: 0 });
  expect(text).not.toMatch(/next attempt|web\.media|partly failed/);
  expect(await state.retries()).toEqual([]);
  // A monitor that got the start of the run gets its end.
  expect(sent).toMatchObject([
    { type: 'run-finished', report: { id: RUN, status: 'ok', results: [{ name: 'db.postgres' }] } },
  ]);
  expect(sent[0]).not.toHaveProperty('report.retry');
  // The results of other sources stay.
  expect((await state.results())['db.postgres']).toMatchObject({ run: RUN, status: 'ok' });
});

test('the retry stays for a source that failed for another reason, without the accepted one', async () => {
  const away = makeFailure({ error: { code: 'PG_UNREACHABLE', message: 'away' } });
  planned = ['config', 'db.postgres'];
  await failed([makeResult({ name: 'config' }), away, gone]);
  expect(await accept(call('web.media'))).toBe(0);
  const { code, text } = await shown();
  expect({ code, text }).toMatchObject({ code: 3, text: expect.stringContaining('next attempt') });
  expect(text).not.toContain('web.media');
  expect(sent).toEqual([]);
  expect(await state.retries()).toMatchObject([
    { earlier: { results: [{ name: 'config' }, { name: 'db.postgres' }] } },
  ]);
});

test('a run that was reported is not reported again, and the next run is a change', async () => {
  await failed([good, gone], false);
  await state.saveRetries([]);
  expect(await accept(call('web.media'))).toBe(0);
  expect((await shown()).code).toBe(0);
  expect(sent).toEqual([]);
  expect((await state.lastRun())?.status).toBe('partial');
});

test('the acceptance of an empty volume ends its failure too', async () => {
  planned = ['db.postgres', 'web.media'];
  const error = { code: 'TREE_EMPTY', message: 'web.media holds no files at all' } as const;
  await failed([good, { ...gone, error }]);
  expect((await shown()).code).toBe(3);
  expect(await accept(call('web.media'))).toBe(0);
  expect(await shown()).toMatchObject({ code: 0, text: expect.stringMatching(/web\.media +ok/) });
  expect(await state.retries()).toEqual([]);
  expect(sent).toHaveLength(1);
  // The same failure after the acceptance is a new one.
  const later = new Date(Date.now() + 1_000).toISOString();
  await state.saveLastRun(makeReport({ id: '20261121T030000Z-4f1c9a', end: later, results: [{ ...gone, error }] }));
  expect((await shown()).code).toBe(3);
});

test('an acceptance by a clock that fell back ends the retry and the alarm too', async () => {
  await failed([good, gone], true, { after: 1, ahead: 60 * MINUTE });
  expect(await accept(call('web.media'))).toBe(0);
  expect(await state.retries()).toEqual([]);
  expect((await shown()).code).toBe(0);
});

test('status says nothing about an accepted failure', async () => {
  planned = ['db.postgres', 'web.media'];
  await failed([good, { ...gone, error: { code: 'TREE_EMPTY', message: 'web.media holds no files at all' } }]);
  await accept(call('web.media'));
  expect((await shown()).text).not.toMatch(/TREE_EMPTY|no files/);
});
