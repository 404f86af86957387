import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { createLetters } from '../../src/daemon/letter.ts';
import type { Plan } from '../../src/plan/model.ts';
import type { RunEvent } from '../../src/report/events.ts';
import { letterText } from '../../src/report/letter.ts';
import { saveMeasured } from '../../src/targets/measured.ts';

let directory: string;
let clock: Date;
let letters: Extract<RunEvent, { type: 'letter' }>[];
let isAway: boolean;
let tombstones: number;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'letter-'));
  clock = new Date('2026-11-16T09:00:00Z');
  letters = [];
  isAway = false;
  tombstones = 3;
});
afterEach(() => rm(directory, { recursive: true }));

const plan = {
  ...{ project: 'shop', problems: [] },
  sources: [
    { name: 'db.postgres', schedule: '0 3 * * *', kind: 'postgres' },
    { name: 'web.media', schedule: '0 3 * * *', kind: 'volume', rpoMs: 3_600_000 },
  ],
} as unknown as Plan;

/** Snapshots of three nights, newest first. */
const snapshots = [
  ['2026-11-23', 'ok', 5_000],
  ['2026-11-22', 'failed', 3_000],
  ['2026-11-15', 'ok', 3_000],
].map(([day, status, bytes], i) => ({
  manifest: {
    ...{ id: `${String(day).replaceAll('-', '')}T030000Z-aaaaaa`, trigger: 'schedule', sequence: 3 - i },
    ...{ start: `${day}T03:00:00.000Z`, end: `${day}T03:00:41.000Z` },
    sources: {
      'db.postgres': { kind: 'postgres', status, bytes, newBytes: 1_000 },
      'web.media': { kind: 'volume', status: 'ok', bytes: 10, newBytes: 0 },
    },
  },
}));

/** Checks once, as an agent that has just started. */
async function check(): Promise<void> {
  const destination = {
    async *list() {
      for (let i = 0; i < tombstones; i++) yield { key: `shop/tombstones/2026111${i}T030000Z-aaaaaa.json`, size: 1 };
    },
  };
  const repository = { project: 'shop', destination, snapshots: async () => ({ snapshots, damaged: [] }) };
  await createLetters({
    ...{
      project: 'shop',
      schedule: '0 8 * * 1',
      zone: 'UTC',
      copies: ['/nas', '/away'],
      log: silentLog,
      now: () => clock,
    },
    state: {
      ...{ directory, results: async () => ({}), accepted: async () => ({}), damaged: async () => [] },
      copies: async () => ({
        '/nas': { behindSince: '2026-11-22T03:00:00.000Z' },
        '/away': { made: '2026-11-01T03:00:00.000Z', complete: '2026-11-23T03:00:00.000Z' },
      }),
    },
    look: async () => {
      if (isAway) throw new Error('away');
      return repository as never;
    },
    nextRun: () => new Date('2026-11-24T03:00:00Z'),
    emit: (event) => void (event.type === 'letter' && letters.push(event)),
  }).check(plan);
}

test('a letter is sent when it is due, once, also if the agent was down at that time', async () => {
  await check();
  expect(letters).toEqual([]);
  clock = new Date('2026-11-23T07:59:00Z');
  await check();
  expect(letters).toEqual([]);
  clock = new Date('2026-11-23T11:00:00Z');
  await check();
  await check();
  expect(letters).toHaveLength(1);
});

test('a letter waits for the destination', async () => {
  await check();
  clock = new Date('2026-11-23T08:00:00Z');
  isAway = true;
  await check();
  expect(letters).toEqual([]);
  isAway = false;
  await check();
  expect(letters).toHaveLength(1);
});

test('it says what was backed up, proven and pruned, how sizes moved, and what needs a person', async () => {
  await saveMeasured(directory, ['db.postgres'], {
    id: 'd',
    at: '2026-11-21T03:00:00Z',
    durationMs: 38_000,
    by: 'drill',
  });
  await check();
  clock = new Date('2026-11-23T08:00:00Z');
  tombstones = 5;
  await check();
  const [{ letter }] = letters as [(typeof letters)[number]];
  expect(letter).toMatchObject({ pruned: 2, snapshots: 3 });
  const { title, lines, next } = letterText(letter, { now: clock, zone: 'UTC' });
  expect(title).toBe('shop: the last 6d 23h: 2 things need a person');
  expect(next).toEqual(['`docker compose exec lifeboat lifeboat status`']);
  expect(lines).toEqual([
    expect.stringMatching(/^needs a person: web\.media: RPO 1h: not met for 3h: its last good snapshot is 4h old/),
    'needs a person: copy /nas has been behind for 29h',
    'backups: 3 good, 1 failed or incomplete · 2.0 KiB new',
    'kept: 3 snapshots, 2 pruned',
    'db.postgres: 1 good backup, 1 not good · the last one 4h ago · 4.9 KiB (+2.0 KiB) · a drill took 38s, 2 days ago',
    'web.media: 2 good backups · the last one 4h ago · 10 B · never restored yet',
    'copy /away · complete 5h ago',
    expect.stringMatching(/^next run tomorrow 03:00/),
  ]);
});
