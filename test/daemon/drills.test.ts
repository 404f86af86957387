import { beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { runDueDrill } from '../../src/daemon/drills.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';

const HOUR = 3_600_000;
const WEEKLY = { mode: 'schedule', schedule: '0 6 * * 6', timeoutMs: HOUR, assertTimeoutMs: 1000, memory: 1 } as const;

let times: Record<string, string>;
let now: Date;
let drills: number;
let result: DrillReport['status'] | Error;
let onDrill: () => void;
let until: AbortController;
let reported: string[];
let overdue: string[];
/** the arguments of the calls that ask for what is overdue */
let since: string[];
let stored: string | undefined;
beforeEach(() => {
  times = {};
  // A Friday.
  now = new Date('2026-11-20T12:00:00Z');
  drills = 0;
  until = new AbortController();
  reported = [];
  overdue = [];
  since = [];
  stored = undefined;
  result = 'ok';
  onDrill = () => undefined;
});

/** Lets the daemon look whether a drill is due, at a time. Resolves to how many drills ran by then. */
async function look(at: string, mode: 'schedule' | 'every' | 'off' = 'schedule'): Promise<number> {
  now = new Date(at);
  const drill = async (): Promise<DrillReport> => {
    drills++;
    onDrill();
    if (result instanceof Error) throw result;
    return {
      ...{ id: 'a', project: 'shop', trigger: 'schedule', start: at, end: at, status: result, agentVersion: '1' },
      ...{ results: [], unproven: [] },
    };
  };
  const served = {
    read: async () => ({ ...times }),
    write: async (all: typeof times) => {
      times = all;
    },
  };
  const deps = {
    drills: {
      settings: { ...WEEKLY, mode },
      drill,
      overdue: async (time: Date) => {
        since.push(time.toISOString());
        return overdue;
      },
      stored: async () => (stored === undefined ? undefined : new Date(stored)),
      reportUnbegun: async (cause: unknown) => void reported.push(`${at} ${(cause as LifeboatError).code}`),
    },
    log: silentLog,
    zone: 'UTC',
    now: () => now,
    served,
  };
  await runDueDrill(deps, until.signal, new Date(now.getTime() + HOUR));
  return drills;
}

describe('the schedule of drills', () => {
  test('counts from the first start on, runs a drill once, and catches up', async () => {
    expect(await look('2026-11-20T12:00:00Z')).toBe(0);
    expect(await look('2026-11-21T05:59:00Z')).toBe(0);
    expect(await look('2026-11-21T06:00:00Z')).toBe(1);
    expect(await look('2026-11-21T06:01:00Z')).toBe(1);
    expect(await look('2026-11-29T12:00:00Z')).toBe(2);
  });

  test('runs a drill after the first backup of each day with `every`, and none with `off`', async () => {
    await look('2026-11-20T12:00:00Z', 'every');
    stored = '2026-11-20T14:00:00Z';
    expect(await look('2026-11-20T14:01:00Z', 'every')).toBe(0);
    expect(await look('2026-11-21T00:01:00Z', 'every')).toBe(0);
    for (const day of [21, 22, 23, 24]) {
      const before = day - 21;
      expect(await look(`2026-11-${day}T03:09:00Z`, 'every')).toBe(before);
      stored = `2026-11-${day}T03:10:00Z`;
      expect(await look(`2026-11-${day}T03:11:00Z`, 'every')).toBe(before + 1);
      stored = `2026-11-${day}T15:10:00Z`;
      expect(await look(`2026-11-${day}T15:11:00Z`, 'every')).toBe(before + 1);
    }
    // Backups that end in the last minute of their day.
    for (const day of [25, 26, 27]) {
      stored = `2026-11-${day}T23:59:30Z`;
      expect(await look(`2026-11-${day + 1}T00:00:00Z`, 'every')).toBe(day - 20);
    }
    expect(await look('2026-11-28T11:00:00Z', 'off')).toBe(7);
  });

  test('follows the schedule again after a time with `every`', async () => {
    await look('2026-11-20T12:00:00Z', 'every');
    stored = '2026-11-21T03:10:00Z';
    expect(await look('2026-11-21T03:11:00Z', 'every')).toBe(1);
    expect(await look('2026-11-21T05:59:00Z')).toBe(1);
    for (const minute of ['06:00', '06:01', '06:02', '12:00']) await look(`2026-11-21T${minute}:00Z`);
    expect(await look('2026-11-22T06:00:00Z')).toBe(2);
    expect(await look('2026-11-28T06:00:00Z')).toBe(3);
    expect(Object.keys(times)).toEqual(['drill']);
    expect(await look('2026-11-29T06:00:00Z', 'every')).toBe(3);
    stored = '2026-11-29T06:10:00Z';
    expect(await look('2026-11-29T06:11:00Z', 'every')).toBe(4);
  });

  test('tries again in the next minute if a run holds the lock', async () => {
    await look('2026-11-20T12:00:00Z');
    result = new LifeboatError('LOCKED', 'another run is under way');
    expect(await look('2026-11-21T06:00:00Z')).toBe(1);
    result = 'ok';
    expect(await look('2026-11-21T06:01:00Z')).toBe(2);
    expect(await look('2026-11-21T06:02:00Z')).toBe(2);
  });

  test('tries again some hours after a drill that ended early, and not all the time', async () => {
    await look('2026-11-20T12:00:00Z');
    result = 'interrupted';
    expect(await look('2026-11-21T06:00:00Z')).toBe(1);
    expect(await look('2026-11-21T06:01:00Z')).toBe(1);
    expect(await look('2026-11-21T12:00:00Z')).toBe(2);
    result = 'ok';
    expect(await look('2026-11-21T18:00:00Z')).toBe(3);
    expect(await look('2026-11-22T18:00:00Z')).toBe(3);
  });

  test('tries again some hours after a drill that crashed the agent', async () => {
    await look('2026-11-20T12:00:00Z');
    let crashed: Record<string, string> = {};
    onDrill = () => {
      crashed = times;
    };
    await look('2026-11-21T06:00:00Z');
    times = crashed;
    expect(await look('2026-11-21T06:01:00Z')).toBe(1);
    expect(await look('2026-11-21T12:00:00Z')).toBe(2);
    expect(await look('2026-11-21T18:00:00Z')).toBe(2);
  });

  test('waits for the schedule after two drills that crashed the agent', async () => {
    await look('2026-11-20T12:00:00Z');
    let crashed: Record<string, string> = {};
    onDrill = () => {
      crashed = times;
    };
    const crash = async (at: string) => {
      const count = await look(at);
      times = crashed;
      return count;
    };
    expect(await crash('2026-11-21T06:00:00Z')).toBe(1);
    expect(await crash('2026-11-21T12:00:00Z')).toBe(2);
    expect(await crash('2026-11-21T18:00:00Z')).toBe(2);
    expect(await crash('2026-11-28T06:00:00Z')).toBe(3);
    expect(await look('2026-11-28T12:00:00Z')).toBe(4);
    expect(Object.keys(times)).toEqual(['drill']);
  });

  test('reports sources whose drills have ended early for two periods, once for each', async () => {
    await look('2026-11-20T12:00:00Z');
    result = 'interrupted';
    await look('2026-11-21T06:00:00Z');
    expect(reported).toEqual([]);
    expect(since).toEqual(['2026-11-14T06:00:00.000Z']);
    overdue = ['db.postgres'];
    for (const at of ['21T12:00', '21T18:00', '28T06:00', '28T12:00']) await look(`2026-11-${at}:00Z`);
    expect(reported).toEqual(['2026-11-21T12:00:00Z DRILL_FAILED', '2026-11-28T06:00:00Z DRILL_FAILED']);
    expect(drills).toBe(5);
  });

  test('tries again some hours after a drill that could not begin', async () => {
    await look('2026-11-20T12:00:00Z');
    result = new LifeboatError('DEST_UNREACHABLE', 'the destination does not answer');
    expect(await look('2026-11-21T06:00:00Z')).toBe(1);
    expect(await look('2026-11-21T06:01:00Z')).toBe(1);
    result = 'ok';
    expect(await look('2026-11-21T12:00:00Z')).toBe(2);
    expect(await look('2026-11-21T18:00:00Z')).toBe(2);
  });

  test('reports a drill that could not begin once for each scheduled time', async () => {
    await look('2026-11-20T12:00:00Z');
    result = new LifeboatError('ENGINE_UNREACHABLE', 'the engine does not answer');
    for (const at of ['21T06:00', '21T12:00', '21T18:00', '28T06:00', '28T12:00']) await look(`2026-11-${at}:00Z`);
    expect(drills).toBe(5);
    expect(reported).toEqual(['2026-11-21T06:00:00Z ENGINE_UNREACHABLE', '2026-11-28T06:00:00Z ENGINE_UNREACHABLE']);
    result = 'ok';
    await look('2026-11-28T18:00:00Z');
    expect(Object.keys(times)).toEqual(['drill']);
  });

  test('reports a drill that could not begin although the daemon was stopped before an earlier try began', async () => {
    await look('2026-11-20T12:00:00Z');
    result = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
    onDrill = () => until.abort();
    await look('2026-11-21T06:00:00Z');
    expect(reported).toEqual([]);
    until = new AbortController();
    onDrill = () => undefined;
    result = new LifeboatError('ENGINE_UNREACHABLE', 'the engine does not answer');
    for (const at of ['12:00', '18:00']) await look(`2026-11-21T${at}:00Z`);
    expect(reported).toEqual(['2026-11-21T12:00:00Z ENGINE_UNREACHABLE']);
  });

  test('reports a drill that runs have prevented for hours, and none that begins before', async () => {
    await look('2026-11-20T12:00:00Z');
    result = new LifeboatError('LOCKED', 'another run is under way');
    for (const at of ['06:00', '06:01', '11:59']) await look(`2026-11-21T${at}:00Z`);
    expect(reported).toEqual([]);
    await look('2026-11-21T12:00:00Z');
    expect(reported).toEqual(['2026-11-21T12:00:00Z LOCKED']);
    expect(await look('2026-11-21T12:01:00Z')).toBe(4);
    result = 'ok';
    await look('2026-11-21T18:00:00Z');
    result = new LifeboatError('LOCKED', 'another run is under way');
    for (const at of ['06:00', '06:01']) await look(`2026-11-28T${at}:00Z`);
    expect(reported).toHaveLength(1);
  });

  test('does not repeat a drill that failed', async () => {
    await look('2026-11-20T12:00:00Z');
    result = 'failed';
    expect(await look('2026-11-21T06:00:00Z')).toBe(1);
    expect(await look('2026-11-28T06:00:00Z')).toBe(2);
    expect(await look('2026-11-28T06:01:00Z')).toBe(2);
  });
});
