import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Plan, PlannedSource } from '../../src/plan/model.ts';
import type { RunEvent, RunReport } from '../../src/report/events.ts';
import type { Manifest, ManifestSource } from '../../src/store/objects/manifest.ts';
import { createAlarms } from '../../src/targets/alarms.ts';
import { recallMeasured, saveMeasured } from '../../src/targets/measured.ts';
import { createTargetWatch } from '../../src/targets/watch.ts';
import { openReceiverMemory, type ReceiverState } from '../../src/wal/receiver-state.ts';

const HOUR = 3_600_000;
let directory: string;
let clock: Date;
let events: RunEvent[];
let manifests: () => Promise<Manifest[]>;
let lists: number;
let lastRun: RunReport | undefined;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'targets-'));
  clock = new Date('2026-11-20T12:00:00Z');
  events = [];
  lists = 0;
  manifests = async () => [];
  lastRun = undefined;
});
afterEach(() => rm(directory, { recursive: true }));

const planOf = (...sources: Partial<PlannedSource>[]) =>
  ({ project: 'shop', problems: [], sources }) as unknown as Plan;
const media = { kind: 'volume', name: 'web.media', rpoMs: 24 * HOUR, rtoMs: HOUR } as const;
const snapshot = (at: string, status: ManifestSource['status'] = 'ok') =>
  ({ id: at, end: at, trigger: 'schedule', sources: { 'web.media': { status } } }) as unknown as Manifest;
const receiver = (state: ReceiverState['state']): ReceiverState => ({
  ...{ slot: 's', containerName: 'db', state, since: clock.toISOString(), at: clock.toISOString() },
});

/** An agent: after each check, everything that it has to say is sent. */
function start(recall: () => Promise<void> = async () => {}) {
  const emit = (event: RunEvent) => void events.push(event);
  const now = () => clock;
  const base = { log: silentLog, now };
  const dispatcher = { emit, flush: async () => undefined };
  const alarms = createAlarms({ ...base, project: 'shop', directory, dispatcher, gatherMs: 1_000_000 });
  const list = async () => {
    lists++;
    return manifests();
  };
  const state = { directory, lastRun: async () => lastRun };
  const watch = createTargetWatch({ ...base, state, alarms, emit, recall, manifests: list });
  return async (plan: Plan) => {
    await watch.check(plan);
    await alarms.flush();
  };
}
const told = () =>
  events.flatMap((event) =>
    event.type === 'alarms'
      ? event.alarms.map(({ topic, source, over }) => `${topic} ${source}${over ? ' over' : ''}`)
      : [],
  );

test('a source whose snapshot becomes too old is an alarm once, and its end too, across restarts', async () => {
  manifests = async () => [snapshot('2026-11-20T03:00:00.000Z')];
  await start()(planOf(media));
  expect(told()).toEqual([]);
  clock = new Date('2026-11-21T03:02:00Z');
  await start()(planOf(media));
  await start()(planOf(media));
  expect(told()).toEqual(['rpo web.media']);
  expect(events[0]).toMatchObject({
    alarms: [
      {
        error: { code: 'RPO_MISSED', message: expect.stringContaining('its last good snapshot is 24h old') },
        safe: 'web.media: the last good snapshot is 24h old',
        next: 'docker compose exec lifeboat lifeboat backup web.media',
      },
    ],
  });
  // A snapshot that holds a part of the source changes nothing.
  manifests = async () => [snapshot('2026-11-21T03:05:00.000Z', 'partial'), snapshot('2026-11-20T03:00:00.000Z')];
  await start()(planOf(media));
  expect(told()).toHaveLength(1);
  manifests = async () => [snapshot('2026-11-21T03:05:00.000Z')];
  await start()(planOf(media));
  expect(told()).toEqual(['rpo web.media', 'rpo web.media over']);
});

test('lists the snapshots after a run, not each minute, and judges without the destination', async () => {
  manifests = async () => [snapshot('2026-11-20T03:00:00.000Z')];
  const check = start();
  for (let i = 0; i < 3; i++) await check(planOf(media));
  expect(lists).toBe(1);
  lastRun = { id: 'r2' } as RunReport;
  await check(planOf(media));
  expect(lists).toBe(2);
  manifests = () => Promise.reject(new LifeboatError('DEST_UNREACHABLE', 'no answer'));
  clock = new Date('2026-11-22T03:00:00Z');
  await start()(planOf(media));
  expect(told()).toEqual(['rpo web.media']);
});

test('a new source has the time of its target to get a snapshot', async () => {
  await start()(planOf(media));
  clock = new Date(clock.getTime() + 23 * HOUR);
  await start()(planOf(media));
  expect(told()).toEqual([]);
  clock = new Date(clock.getTime() + 2 * HOUR);
  await start()(planOf(media));
  expect(told()).toEqual(['rpo web.media']);
});

test('a slow restore is an alarm, until a faster one is measured', async () => {
  const plan = planOf({ ...media, rpoMs: undefined! });
  const measure = (id: string, durationMs: number) =>
    saveMeasured(directory, ['web.media'], { id, at: `2026-11-20T0${id}:00:00.000Z`, durationMs, by: 'restore' });
  const check = start();
  await check(plan);
  await measure('1', 2 * HOUR);
  await check(plan);
  await measure('2', HOUR / 2);
  await check(plan);
  expect(told()).toEqual(['rto web.media', 'rto web.media over']);
});

test('a lost memory of restores comes back from their records', async () => {
  const records: Record<string, object> = {
    'shop/restores/1.json': {
      id: '1',
      verb: 'restore',
      end: '2026-11-19T03:00:00Z',
      workMs: HOUR,
      whole: ['web.media'],
    },
    'shop/restores/2.json': {
      id: '2',
      verb: 'restore',
      end: '2026-11-20T03:00:00Z',
      workMs: 2 * HOUR,
      whole: ['web.media'],
    },
    'shop/restores/3.json': { id: '3', verb: 'restore', end: '2026-11-20T04:00:00Z', workMs: 1, whole: [] },
    'shop/restores/4.json': { id: '4', verb: 'rollback', end: '2026-11-20T05:00:00Z' },
  };
  const destination = {
    async *list() {
      for (const key of Object.keys(records)) yield { key };
    },
    get: async (key: string) => Readable.from([Buffer.from(JSON.stringify(records[key]))]),
  };
  await start(() => recallMeasured(directory, { destination: destination as never, project: 'shop' }))(
    planOf({ ...media, rpoMs: undefined! }),
  );
  expect(events[0]).toMatchObject({ alarms: [{ error: { message: expect.stringContaining('took 2h') } }] });
});

test('targets that are no longer set, and sources that are gone, end their alarms', async () => {
  clock = new Date('2026-11-25T03:00:00Z');
  manifests = async () => [snapshot('2026-11-20T03:00:00.000Z')];
  await start()(planOf(media));
  await start()(planOf({ kind: 'volume', name: 'web.media' }));
  await start()(planOf(media));
  await start()(planOf());
  expect(told()).toEqual(['rpo web.media', 'rpo web.media over', 'rpo web.media', 'rpo web.media over']);
});

test('an alarm stays open while the container of its database does not run', async () => {
  clock = new Date('2026-11-25T03:00:00Z');
  manifests = async () => [snapshot('2026-11-20T03:00:00.000Z')];
  await start()(planOf(media));
  const stopped = { 'web.media': { container: 'shop-web-1', start: 'docker compose start web' } };
  await start()({ ...planOf(), stopped });
  expect(told()).toEqual(['rpo web.media']);
});

test('the alarm of a database that was stopped goes on when it runs again', async () => {
  clock = new Date('2026-11-25T03:00:00Z');
  manifests = async () => [snapshot('2026-11-20T03:00:00.000Z')];
  const other = { ...media, name: 'web.other', rpoMs: 1000 * HOUR };
  const check = start();
  await check(planOf(media, other));
  const stopped = { 'web.media': { container: 'shop-web-1', start: 'docker compose start web' } };
  await check({ ...planOf(other), stopped });
  await check(planOf(media, other));
  expect(told()).toEqual(['rpo web.media']);
});

test('listeners hear every few minutes whether WAL is received', async () => {
  const plan = planOf(
    { kind: 'postgres', name: 'db.postgres' },
    { kind: 'base', name: 'db.postgres.base', server: 'db.postgres' },
  );
  await start()(plan);
  expect(events).toEqual([]);
  const memory = openReceiverMemory(directory);
  await memory.saveState('db.postgres', receiver('receiving'));
  const check = start();
  await check(plan);
  await check(plan);
  expect(events).toEqual([{ type: 'wal-seen', sources: ['db.postgres'], failing: [] }]);
  // A receiver that hangs says nothing more.
  clock = new Date(clock.getTime() + HOUR);
  await start()(plan);
  expect(events.at(-1)).toEqual({ type: 'wal-seen', sources: ['db.postgres'], failing: ['db.postgres'] });
  await memory.saveState('db.postgres', receiver('failed'));
  await start()(plan);
  expect(events[1]).toMatchObject({ failing: ['db.postgres'] });
});
