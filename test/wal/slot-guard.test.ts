import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { Session } from '../../src/sources/postgres/server/session.ts';
import type { Tools } from '../../src/sources/postgres/server/tools.ts';
import { formatLsn } from '../../src/store/wal/names.ts';
import { SlotGuard } from '../../src/wal/slot-guard.ts';

const GIB = 1024n ** 3n;
const HOUR_MS = 60 * 60_000;
const OTHER = 'lifeboat_0123456789abcdef';
const { signal } = new AbortController();

let clock: number;
/** where each inactive slot begins */
let slots: Map<string, bigint>;
let flushed: bigint;
let alarms: [message: string, hint: string | undefined][];
let guard: SlotGuard;
beforeEach(() => {
  [clock, flushed, alarms] = [0, 10n * GIB, []];
  slots = new Map();
  vi.spyOn(performance, 'now').mockImplementation(() => clock);
  guard = new SlotGuard(({ message, hint }) => alarms.push([message, hint]));
});
afterEach(() => vi.restoreAllMocks());

const session = {
  versionNumber: 170000,
  one: async (sql: string, [name]: string[] = []) => {
    if (sql.includes('data_directory')) return { directory: '/d' };
    const kept = slots.get(name as string);
    const lsn = formatLsn(flushed);
    const position = { at: '2026-11-20T03:00:00.000Z', inserting: lsn, flushed: lsn, timeline: '00000001' };
    return kept === undefined ? { ...position, active: null } : { ...position, active: 'false', kept: formatLsn(kept) };
  },
  all: async (sql: string, [name]: string[] = []) => {
    if (sql.includes('pg_drop_replication_slot')) slots.delete(name as string);
    if (!sql.includes('AND NOT active')) return [];
    const pattern = /slot_name (?:~|LIKE) '([^']+)'/.exec(sql)?.[1] ?? '';
    return [...slots.keys()]
      .filter((one) => new RegExp(pattern.replace(/%$/, '')).test(one))
      .map((one) => ({ name: one }));
  },
} as unknown as Session;
const tools = {
  log: silentLog,
  sharesMount: async () => true,
  run: async () => 'head\n/dev/sda 104857600 1048576 103809024 1% /d',
} as unknown as Tools;
const look = () => guard.checkOthers({ tools, session, slot: 'lifeboat_own' }, signal);

test('a slot of another Lifeboat that connects again within the hour is no alarm, and stays', async () => {
  slots.set(OTHER, 1n * GIB);
  await look();
  clock = HOUR_MS - 1;
  await look();
  // It was used in between.
  slots.set(OTHER, 2n * GIB);
  clock = HOUR_MS;
  await look();
  clock = 2 * HOUR_MS - 1;
  await look();
  expect(alarms).toEqual([]);
  expect(slots.has(OTHER)).toBe(true);
});

test('a slot that nobody used for an hour is shown once, and dropped once the server keeps too much for it', async () => {
  slots.set(OTHER, 9n * GIB);
  for (const at of [0, HOUR_MS, HOUR_MS + 60_000]) {
    clock = at;
    await look();
  }
  expect(alarms).toEqual([
    [
      `the server keeps 1.0 GiB of WAL for the replication slot ${OTHER}`,
      expect.stringContaining('Another Lifeboat, if there is one, is not connected'),
    ],
  ]);
  flushed = 20n * GIB;
  clock += 60_000;
  await look();
  expect(slots.size).toBe(0);
  expect(alarms[1]?.[0]).toBe(
    `the server keeps 11.0 GiB of WAL for the replication slot ${OTHER}, which nobody used for an hour, so Lifeboat dropped the slot`,
  );
});

test('a slot with another form of name is of something else', async () => {
  slots.set('lifeboat_of_a_user', 1n * GIB);
  await look();
  clock = 2 * HOUR_MS;
  await look();
  expect(alarms).toEqual([]);
  expect([...slots.keys()]).toEqual(['lifeboat_of_a_user']);
});
