import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { BaseSource } from '../../src/plan/model.ts';
import type { SlotState } from '../../src/sources/postgres/wal/slot.ts';
import type { ReceiverMemory, ReceiverState } from '../../src/wal/receiver-state.ts';
import { ReceiverStatus } from '../../src/wal/receiver-status.ts';

let saved: ReceiverState | undefined;
let alarms: [message: string, over: boolean][];
let clock: number;
beforeEach(() => {
  saved = undefined;
  alarms = [];
  clock = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => clock);
});
afterEach(() => vi.restoreAllMocks());

const open = () =>
  new ReceiverStatus(
    {
      memory: {
        state: async () => saved,
        async saveState(_: string, state: ReceiverState) {
          saved = state;
        },
      } as unknown as ReceiverMemory,
      log: silentLog,
      now: () => new Date('2026-11-20T03:00:00Z'),
      alarm: (_topic, _source, { message }) => alarms.push([message, false]),
      alarmOver: (source) => alarms.push([source, true]),
    },
    { server: 'db.postgres', containerName: 'shop-db-1' } as BaseSource,
  );
const position = { inserting: 100n, flushed: 100n, timeline: 1, at: '2026-11-20T03:00:00.000Z' };
const state: SlotState = { ...position, slot: { active: true, received: 100n, reported: true } };
const gone = new LifeboatError('PG_UNREACHABLE', 'the server does not answer');

test('a failure is an alarm once it has lasted a minute, once, and its end is reported', async () => {
  const status = open();
  await status.stored(state, {});
  // An earlier agent may have given an alarm that is over now.
  expect(alarms).toEqual([['db.postgres', true]]);
  alarms = [];
  await status.failed(gone);
  clock = 59_000;
  await status.failed(gone);
  expect(alarms).toEqual([]);
  clock = 60_000;
  await status.failed(gone);
  clock = 90_000;
  await status.failed(gone);
  expect(alarms).toEqual([[expect.stringContaining('the server does not answer'), false]]);
  await status.stored(state, {});
  expect(alarms).toHaveLength(2);
  expect(alarms[1]?.[1]).toBe(true);
});

test('a failure that does not end by itself is an alarm at once, also right after another one', async () => {
  const status = open();
  await status.failed(gone);
  clock = 10_000;
  await status.failed(new LifeboatError('LOCKED', 'another Lifeboat receives the WAL'), Number.POSITIVE_INFINITY);
  expect(alarms).toEqual([[expect.stringContaining('another Lifeboat receives the WAL'), false]]);
});

test('a restart of the server is no alarm', async () => {
  const status = open();
  for (const at of [0, 70_000, 140_000]) {
    clock = at;
    await status.failed(gone);
    await status.stored(state, {});
  }
  expect(alarms.filter(([, over]) => !over)).toEqual([]);
});

test('a new daemon continues with the position that was confirmed, for the same server alone', async () => {
  const confirmed = { timeline: 1, lsn: '0/64', at: '2026-11-20T02:00:00.000Z' };
  await open().stored(state, { confirmed, stored: 100n });
  saved = { ...(saved as ReceiverState), systemId: '1' };
  const same = open();
  await same.remember();
  expect(same.isOf('1')).toBe(true);
  await same.connected('1', 'slot', 1);
  expect(saved).toMatchObject({ confirmed, stored: '0/64' });
  const other = open();
  await other.remember();
  expect(other.isOf('2')).toBe(false);
  await other.connected('2', 'slot', 1);
  expect(saved?.confirmed).toBeUndefined();
});

test('a receiver that ends after each start is a failure, although the little that there is gets stored', async () => {
  const status = open();
  for (const at of [0, 30_000, 61_000]) {
    clock = at;
    await status.failed(new LifeboatError('EXEC_FAILED', 'pg_receivewal ended'));
    await status.stored({ ...position, slot: { active: true, received: 100n } }, {});
  }
  expect(saved?.state).toBe('failed');
  expect(alarms).toEqual([[expect.stringContaining('pg_receivewal ended'), false]]);
});

test('a receiver that works is none while nothing can be stored', async () => {
  const status = open();
  await status.failed(new LifeboatError('DEST_UNREACHABLE', 'no answer'));
  await status.followed(state);
  expect(saved?.state).toBe('failed');
  await status.stored(state, {});
  await status.followed({ ...state, at: '2026-11-20T03:00:05.000Z' });
  expect(saved?.state).toBe('receiving');
});

test('a destination that hung for minutes is an alarm at once', async () => {
  await open().failed(gone, 900_000);
  expect(alarms).toHaveLength(1);
});
