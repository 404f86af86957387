import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Notifier } from '../../src/notify/notifier.ts';
import { failedSources, REMIND_AFTER, shouldReport, withPolicy } from '../../src/notify/policy.ts';
import type { NotifyMode } from '../../src/plan/messages/notify-modes.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';
import type { RunReport } from '../../src/report/events.ts';
import { makeFailure, makeReport, makeResult } from '../report/fixtures.ts';
import { wordsOf } from './notifier-of.ts';

const ok = makeReport();
const bad = makeReport({ status: 'partial', results: [makeResult(), makeFailure()] });
const followed = (report: RunReport, previousStatus: RunReport['status']): RunReport => ({ ...report, previousStatus });
const told = (report: RunReport, at: number) => ({ at, failed: failedSources(report) });
const other = makeReport({ status: 'partial', results: [makeFailure({ name: 'other' })] });
const beside = makeReport({ others: [{ name: 'other', attention: 'failed' }] });

test.each<[NotifyMode, string, RunReport, Parameters<typeof shouldReport>[2], boolean]>([
  ['always', 'ok', ok, undefined, true],
  ['always', 'the same again', followed(ok, 'ok'), undefined, true],
  ['failure', 'ok', ok, undefined, false],
  ['failure', 'ok again', followed(ok, 'failed'), told(bad, 0), true],
  ['failure', 'still ok', followed(ok, 'ok'), told(bad, 0), false],
  ['failure', 'partial', bad, undefined, true],
  ['failure', 'the same failure again', followed(bad, 'partial'), told(bad, 0), true],
  ['change', 'the first run', ok, undefined, true],
  ['change', 'still ok', followed(ok, 'ok'), undefined, false],
  ['change', 'ok again', followed(ok, 'failed'), undefined, true],
  ['change', 'failed now', followed(bad, 'ok'), undefined, true],
  ['change', 'partial after failed', followed(bad, 'failed'), told(bad, 0), true],
  ['change', 'still failing, reported before', followed(bad, 'partial'), told(bad, 0), false],
  ['change', 'still failing, another source', followed(bad, 'partial'), told(other, 0), true],
  ['change', 'still failing, reported a day ago', followed(bad, 'partial'), told(bad, 1 - REMIND_AFTER), true],
  ['change', 'still failing, after a restart', followed(bad, 'partial'), undefined, true],
  ['failure', 'ok, while another source is not', beside, undefined, true],
  ['failure', 'ok, while another source is not, reported before', beside, told(beside, 0), false],
  ['change', 'ok, after its other source failed and was reported', followed(beside, 'failed'), told(beside, 0), false],
  [
    'change',
    'ok, while another source is not, reported a day ago',
    followed(beside, 'partial'),
    told(beside, 1 - REMIND_AFTER),
    true,
  ],
  ['always', 'failed, and tried again', { ...bad, retry: { at: '', quiet: true } }, undefined, false],
  [
    'failure',
    'failed, and only some sources tried again',
    { ...bad, retry: { at: '', quiet: false } },
    undefined,
    true,
  ],
  ['change', 'ok, after the other source has recovered', followed(ok, 'partial'), told(beside, 0), true],
])('%s: %s', (mode, _name, report, memory, expected) => {
  expect(shouldReport(mode, report, memory, 1)).toBe(expected);
});

test.each<NotifyMode>(['failure', 'change'])(
  'mode %s reports the good drill after a failed one, also in another process',
  async (mode) => {
    const directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-policy-'));
    const heard: string[] = [];
    const create = () => {
      const inner: Notifier = {
        name: 'inner',
        handle: (event) => void heard.push(event.type === 'drill-finished' ? event.report.status : event.type),
        test: async () => '',
      };
      return withPolicy(inner, { mode, directory });
    };
    const drill = async (status: DrillReport['status'], notifier = create()) => {
      const report = { id: 'd', status, results: [{ source: 'db', status, steps: [] as object[] }] } as DrillReport;
      await notifier.handle({ type: 'drill-finished', report }, new AbortController().signal);
    };
    try {
      for (const status of ['ok', 'failed', 'interrupted', 'ok', 'ok'] as const) await drill(status);
      expect(heard).toEqual(['failed', 'ok']);
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
);

test('a good drill of another source does not end the trouble of the one that failed', async () => {
  const heard: [string, string[] | undefined][] = [];
  const inner: Notifier = {
    name: 'inner',
    handle: (event) => void (event.type === 'drill-finished' && heard.push([event.report.id, event.failing])),
    test: async () => '',
  };
  const change = withPolicy(inner, { mode: 'change' });
  const always = withPolicy({ ...inner, name: 'other' }, { mode: 'always' });
  const drill = async (source: string, status: DrillReport['status'], notifier: Notifier) => {
    const results = [{ source, status, steps: [] as object[] }];
    const report = { id: `${source} ${status}`, status, asked: { sources: [source] }, results } as DrillReport;
    await notifier.handle({ type: 'drill-finished', report }, new AbortController().signal);
  };
  for (const notifier of [change, always]) {
    await drill('db', 'failed', notifier);
    await drill('web', 'ok', notifier);
    await drill('db', 'ok', notifier);
  }
  expect(heard).toEqual([
    ['db failed', ['db']],
    ['db ok', []],
    ['db failed', ['db']],
    ['web ok', ['db']],
    ['db ok', []],
  ]);
  const report = {
    ...({ id: 'd', project: 'shop', status: 'ok', start: '', end: '' } as DrillReport),
    results: [],
    unproven: [],
  };
  const incidents = (failing: string[]) => wordsOf({ type: 'drill-finished', report, failing }).incidents;
  expect(incidents(['db'])).toEqual([]);
  expect(incidents([])).toMatchObject([{ key: 'drill', over: true }]);
});

describe('withPolicy', () => {
  const signal = new AbortController().signal;
  function setup(mode: NotifyMode) {
    const heard: string[] = [];
    let broken = false;
    let now = 0;
    const inner: Notifier = {
      name: 'inner',
      handle(event) {
        if (broken) throw new Error('down');
        heard.push(event.type);
      },
      test: async () => 'tested',
    };
    const notifier = withPolicy(inner, { mode, now: () => now });
    const run = async (report: RunReport, at: number) => {
      now = at;
      await notifier.handle({ type: 'run-finished', report }, signal);
    };
    return { notifier, heard, run, breakIt: (value: boolean) => (broken = value) };
  }

  test('a persistent failure is reported once a day', async () => {
    const { run, heard } = setup('change');
    for (let hour = 0; hour < 49; hour++) await run(followed(bad, hour === 0 ? 'ok' : 'partial'), hour * 3_600_000);
    expect(heard).toHaveLength(3);
  });

  test('a report that could not be delivered does not count as reported', async () => {
    const { run, heard, breakIt } = setup('change');
    breakIt(true);
    await expect(run(followed(bad, 'ok'), 0)).rejects.toThrow('down');
    breakIt(false);
    await run(followed(bad, 'partial'), 3_600_000);
    expect(heard).toHaveLength(1);
  });

  test.each<NotifyMode>(['failure', 'change'])(
    'mode %s: a drill is reported if it failed or left something new unproven',
    async (mode) => {
      const { notifier, heard } = setup(mode);
      const drilled = async (status: DrillReport['status'], repeated?: boolean) => {
        heard.length = 0;
        const results = status === 'failed' ? [] : [{ source: 'db', status, steps: [] as object[] }];
        const report = { status, results } as DrillReport;
        await notifier.handle({ type: 'drill-finished', report, ...(repeated ? { repeated } : {}) }, signal);
        return heard.length;
      };
      expect([await drilled('failed'), await drilled('unproven'), await drilled('unproven', true)]).toEqual([1, 1, 0]);
      expect([await drilled('ok'), await drilled('ok'), await drilled('interrupted')]).toEqual([0, 0, 0]);
    },
  );

  test('tests and events without a result pass', async () => {
    const { notifier, heard } = setup('failure');
    await notifier.handle({ type: 'run-started', run: ok }, signal);
    expect(heard).toEqual(['run-started']);
    expect(await notifier.test(signal)).toBe('tested');
  });
});

test.each<NotifyMode>(['failure', 'change'])(
  'mode %s reports a run that is ok but in which a source lost data, and each day until a user accepts it',
  (mode) => {
    const calm = followed(ok, 'ok');
    expect(shouldReport(mode, calm, undefined, 0)).toBe(false);
    const fell = { since: 's', why: [] };
    const last = { at: 0, failed: '[]' };
    const lost = { ...calm, results: [makeResult({ fell })] };
    expect(shouldReport(mode, lost, last, 1)).toBe(true);
    const later = { ...calm, results: [makeResult({ fell: { ...fell, at: '2026-11-19T03:00:00.000Z' } })] };
    expect(shouldReport(mode, later, last, 1)).toBe(false);
    expect(shouldReport(mode, later, last, REMIND_AFTER)).toBe(true);
    // The run of the next night may end a moment earlier than this one.
    expect(REMIND_AFTER).toBeLessThan(24 * 3_600_000);
  },
);

describe('the trouble of drills', () => {
  type Result = Partial<DrillReport['results'][number]> & { status: DrillReport['status'] };
  const NONE = { source: 'db', place: '/b', steps: [{ name: 'restoring', durationMs: 1 }], checks: [], notes: [] };

  /** Returns what is failing after each drill, and whether a message ends the incident. */
  async function outcomeOf(...drills: (Partial<Omit<DrillReport, 'results'>> & { results: Result[] })[]) {
    const heard: { failing: string[] | undefined; over: boolean | undefined }[] = [];
    const inner: Notifier = {
      name: 'inner',
      handle: (event) => {
        if (event.type !== 'drill-finished') return;
        heard.push({ failing: event.failing, over: wordsOf(event).incidents[0]?.over });
      },
      test: async () => '',
    };
    const notifier = withPolicy(inner, { mode: 'always' });
    for (const { results, ...drill } of drills) {
      const status = drill.status ?? results[0]?.status ?? 'failed';
      const all = results.map((one) => ({ ...NONE, ...one }));
      const times = { id: 'd', project: 'shop', start: '2026-11-20T06:00:00Z', end: '2026-11-20T06:00:01Z' };
      const report = { ...times, unproven: [], ...drill, status, results: all } as unknown as DrillReport;
      await notifier.handle({ type: 'drill-finished', report }, new AbortController().signal);
    }
    return heard.at(-1);
  }

  const failed = { results: [{ status: 'failed' as const }] };
  const KEY_MISSING = { code: 'KEY_MISSING' as const, message: 'no key' };

  test('of a source that is gone ends with the next drill of everything', async () => {
    const gone = { results: [{ source: 'web', status: 'ok' as const }] };
    expect(await outcomeOf(failed, gone)).toEqual({ failing: [], over: true });
    expect(await outcomeOf(failed, { ...gone, asked: { sources: ['web'] } })).toEqual({
      failing: ['db'],
      over: undefined,
    });
    const error = { code: 'INTERRUPTED' as const, message: 'the next backup is due' };
    expect(await outcomeOf(failed, { ...gone, error })).toEqual({ failing: ['db'], over: undefined });
  });

  test('of a drill that could not begin ends with the next one that does, even if a part is not proven', async () => {
    const unbegun = { status: 'failed' as const, results: [] };
    const keyless = { results: [{ status: 'unproven' as const, error: KEY_MISSING, steps: [] }] };
    expect(await outcomeOf(unbegun, keyless)).toEqual({ failing: [], over: true });
    expect(await outcomeOf(unbegun, { results: [{ status: 'interrupted' }] })).toEqual({
      failing: ['*'],
      over: undefined,
    });
    expect(await outcomeOf(unbegun, failed)).toEqual({ failing: ['db'], over: false });
  });

  test.each([
    ['an old snapshot', { asked: { snapshot: '2026' } }],
    ['a point in time', { asked: { at: '2026-11-01' } }],
    ['another place', { asked: { from: '/other' } }],
  ])('does not end with a good drill of %s', async (_, asked) => {
    expect(await outcomeOf(failed, { ...asked, results: [{ status: 'ok' }] })).toEqual({
      failing: ['db'],
      over: undefined,
    });
  });

  test('without a key ends if what was missing is there again, and not if content differed', async () => {
    const keyless = { results: [{ status: 'unproven' as const, error: KEY_MISSING, steps: [] }] };
    const missing = { results: [{ status: 'failed' as const, steps: [] }] };
    expect(await outcomeOf(missing, keyless)).toEqual({ failing: [], over: true });
    expect(await outcomeOf(failed, keyless)).toEqual({ failing: ['db'], over: undefined });
  });
});
