import { beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { BaseSource, Plan, PostgresSource } from '../../src/plan/model.ts';
import type { Tools } from '../../src/sources/postgres/server/tools.ts';
import { LeftSlots, leftSlotProblems } from '../../src/wal/left-slots.ts';
import type { ReceiverMemory, SlotRecord } from '../../src/wal/receiver-state.ts';

const HOUR_MS = 60 * 60_000;
const server = { kind: 'postgres', name: 'db.postgres', containerName: 'shop-db-1' } as PostgresSource;
const base = { kind: 'base', name: 'db.postgres.base', server: 'db.postgres' } as BaseSource;
const planOf = (...sources: Plan['sources']): Plan => ({ project: 'shop', sources, problems: [] });
const { signal } = new AbortController();

let now: Date;
let records: SlotRecord[];
let slots: Map<string, { kept: bigint; active: boolean }>;
let opened: PostgresSource[];
let isDown: (server: PostgresSource) => boolean;
let container: { containerId: string; imageId: string } | undefined;
beforeEach(() => {
  now = new Date('2026-11-20T03:00:00Z');
  records = [{ slot: 'lifeboat_1', source: 'db.postgres', server, at: '2026-11-01T00:00:00.000Z' }];
  slots = new Map([['lifeboat_1', { kept: 0n, active: false }]]);
  opened = [];
  isDown = () => false;
  container = { containerId: 'new', imageId: 'image' };
});

const memory = {
  slots: async () => records,
  async updateSlots(change) {
    records = [...change(records)];
  },
} satisfies Partial<ReceiverMemory>;

/** A server that knows its slots. */
const tools = {
  control: async () => ({
    versionNumber: 170000,
    one: async (sql: string, [name]: string[] = []) => {
      if (sql.includes('data_directory')) return { directory: '/data' };
      const slot = slots.get(name as string);
      const position = { at: now.toISOString(), inserting: '8/0', flushed: '8/0', timeline: '00000001' };
      if (!slot) return { ...position, active: null };
      const lsn = `${(8n - slot.kept).toString(16)}/0`;
      return { ...position, active: String(slot.active), kept: lsn, received: lsn, safe: null };
    },
    all: async (sql: string, [name]: string[] = []) => {
      if (sql.includes('pg_drop_replication_slot')) slots.delete(name as string);
      return [];
    },
  }),
  sharesMount: async () => true,
  run: async () => 'x 524288000 1 500000000 1% /data\n',
  close: async () => undefined,
  log: silentLog,
} as unknown as Tools;

const left = () =>
  new LeftSlots({
    ...{ project: 'shop', memory: memory as unknown as ReceiverMemory, log: silentLog, now: () => now },
    openTools: async (source) => {
      opened.push(source);
      if (isDown(source)) throw new Error('no answer');
      return tools;
    },
    find: async () => container,
  });

test('a project that never had a slot costs nothing', async () => {
  records = [];
  expect(await left().check(planOf(), signal)).toBeUndefined();
  expect(opened).toEqual([]);
});

test('a slot with its label stays, and no server is asked', async () => {
  expect(await left().check(planOf(server, base), signal)).toBeUndefined();
  expect(opened).toEqual([]);
  expect(leftSlotProblems(records)).toEqual([]);
});

test('a slot without its label is shown, and dropped after an hour', async () => {
  expect(await left().check(planOf(server), signal)).toBe(HOUR_MS);
  expect(slots.size).toBe(1);
  expect(leftSlotProblems(records)).toMatchObject([{ subject: 'db.postgres', severity: 'warning' }]);
  now = new Date(now.getTime() + HOUR_MS);
  expect(await left().check(planOf(server), signal)).toBeUndefined();
  expect(slots.size).toBe(0);
  expect(records).toEqual([]);
});

test('a slot whose label may only be hidden stays', async () => {
  await left().check({ ...planOf(server), unreadLabels: true }, signal);
  now = new Date(now.getTime() + HOUR_MS);
  await left().check({ ...planOf(server), unreadLabels: true }, signal);
  expect(slots.size).toBe(1);
  // The hour begins when the labels are known again.
  expect(await left().check(planOf(server), signal)).toBe(HOUR_MS);
  expect(slots.size).toBe(1);
});

test('a slot of a database that is stopped is not left: its labels are not known', async () => {
  const stopped = { ...planOf(), stopped: { 'db.postgres': { container: 'shop-db-1' } } } as unknown as Plan;
  container = undefined;
  expect(await left().check(stopped, signal)).toBeUndefined();
  expect(leftSlotProblems(records)).toEqual([]);
  now = new Date(now.getTime() + 2 * HOUR_MS);
  await left().check(stopped, signal);
  container = { containerId: 'new', imageId: 'image' };
  await left().check(planOf(server, base), signal);
  expect(slots.size).toBe(1);
});

test('the slot of a service that was renamed is found on its server', async () => {
  container = undefined;
  const renamed = { kind: 'postgres', name: 'main.postgres', containerName: 'shop-main-1' } as PostgresSource;
  await left().check(planOf(renamed), signal);
  expect(slots.size).toBe(1);
  expect(records).toHaveLength(1);
  now = new Date(now.getTime() + HOUR_MS);
  await left().check(planOf(renamed), signal);
  expect(slots.size).toBe(0);
  expect(records).toEqual([]);
});

test('a slot that no server has stays known while its container is gone', async () => {
  container = undefined;
  slots.clear();
  const other = { kind: 'postgres', name: 'main.postgres', containerName: 'shop-main-1' } as PostgresSource;
  await left().check(planOf(other), signal);
  expect(records).toHaveLength(1);
});

test('a label that comes back within the hour keeps the slot', async () => {
  await left().check(planOf(server), signal);
  await left().check(planOf(server, base), signal);
  expect(records).toMatchObject([{ slot: 'lifeboat_1' }]);
  expect(leftSlotProblems(records)).toEqual([]);
});

test('a slot for which the server keeps too much goes at once', async () => {
  slots.set('lifeboat_1', { kept: 2n, active: false });
  await left().check(planOf(server), signal);
  expect(slots.size).toBe(0);
});

test('a container without any label is found by its name', async () => {
  await left().check(planOf(), signal);
  expect(opened).toMatchObject([{ containerId: 'new', imageId: 'image' }]);
  now = new Date(now.getTime() + HOUR_MS);
  await left().check(planOf(), signal);
  expect(slots.size).toBe(0);
});

test('a server that is gone keeps its record, and is not asked', async () => {
  container = undefined;
  await left().check(planOf(), signal);
  expect(opened).toEqual([]);
  expect(records).toHaveLength(1);
});

const postgres = (name: string) =>
  ({ kind: 'postgres', name: `${name}.postgres`, containerName: `shop-${name}-1` }) as PostgresSource;

test('a slot that no server has is forgotten after the hour, and each server is asked once', async () => {
  container = undefined;
  slots.clear();
  const agent = left();
  const plan = planOf(postgres('a'), postgres('b'));
  await agent.check(plan, signal);
  await agent.check(plan, signal);
  expect(opened.map(({ name }) => name)).toEqual(['a.postgres', 'b.postgres']);
  expect(records).toHaveLength(1);
  now = new Date(now.getTime() + HOUR_MS);
  expect(await agent.check(plan, signal)).toBeUndefined();
  expect(records).toEqual([]);
});

test('a slot that no server has stays known while a server does not answer or is stopped', async () => {
  container = undefined;
  slots.clear();
  const agent = left();
  const stopped = { 'c.postgres': { container: 'shop-c-1' } };
  const plan = { ...planOf(postgres('a'), postgres('b')), stopped } as unknown as Plan;
  isDown = ({ name }) => name === 'a.postgres';
  await agent.check(plan, signal);
  now = new Date(now.getTime() + HOUR_MS);
  await agent.check({ ...plan, stopped: {} }, signal);
  expect(records).toHaveLength(1);
  isDown = () => false;
  await agent.check(plan, signal);
  expect(records).toHaveLength(1);
  await agent.check({ ...plan, stopped: {} }, signal);
  expect(records).toEqual([]);
});

test('a server that does not answer keeps nobody from looking at the next one', async () => {
  container = undefined;
  isDown = ({ name }) => name === 'a.postgres';
  const agent = left();
  const plan = planOf(postgres('a'), postgres('b'));
  await agent.check(plan, signal);
  now = new Date(now.getTime() + HOUR_MS);
  await agent.check(plan, signal);
  expect(slots.size).toBe(0);
});
