import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LifeboatError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import { createLocalDestination } from '../../../src/destinations/local.ts';
import type { SlotState } from '../../../src/sources/postgres/wal/slot.ts';
import { Signing } from '../../../src/store/repository/signing.ts';
import { formatLsn, segmentName, startOf } from '../../../src/store/wal/names.ts';
import { readWalLogs } from '../../../src/store/wal/read-log.ts';
import { WalWriter } from '../../../src/store/wal/write-log.ts';
import { Shipping } from '../../../src/wal/shipping.ts';
import { scratchBase } from '../../store/helpers.ts';

const SIZE = 1024 * 1024;
const place = { project: 'shop', source: 'db.postgres', systemId: '7713464397883531290' };
const { signal } = new AbortController();
const name = (number: number, timeline = 1) => segmentName({ timeline, number }, SIZE);

let root: string;
let received: string;
let gaps: LifeboatError[];
let shipping: Shipping;
const repository = () => ({
  destination: createLocalDestination({ root: join(root, 'backups') }),
  project: 'shop',
  keys: {},
  signing: new Signing('one'),
});
beforeEach(async () => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-shipping-'));
  received = mkdtempSync(join(root, 'received-'));
  mkdirSync(join(root, 'backups'));
  gaps = [];
  const now = () => new Date('2026-11-20T03:00:00Z');
  const writer = await WalWriter.open(repository(), { place, segmentSize: SIZE, home: 'here', now });
  const onGap = (error: LifeboatError) => gaps.push(error);
  shipping = new Shipping({ writer, directory: received, segmentSize: SIZE, log: silentLog, onGap });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** The server has written up to an offset in a segment, and the receiver has confirmed it. */
const state = (number: number, offset: number, at: string, behind = 0): SlotState => {
  const flushed = startOf(number, SIZE) + BigInt(offset);
  return { slot: { active: true, received: flushed - BigInt(behind) }, inserting: flushed, flushed, at };
};
const put = (file: string, fill = 'x') => writeFileSync(join(received, file), Buffer.alloc(SIZE, fill));
const log = async () => (await readWalLogs(repository(), 'db.postgres'))[0]!;

test('complete segments are stored, then removed, except for the last one without a successor', async () => {
  for (const number of [1, 2, 3]) put(name(number));
  const shipped = await shipping.ship(state(4, 0, '2026-11-20T03:00:00.000Z'), signal);
  expect(shipped).toMatchObject({ more: false, stored: startOf(4, SIZE) });
  expect((await log()).wal.segments.map((one) => one.name)).toEqual([1, 2, 3].map((n) => name(n)));
  expect(readdirSync(received)).toEqual([name(3)]);
});

test('of the open segment, only what the slot has confirmed is stored, and only once', async () => {
  put(`${name(1)}.partial`);
  await shipping.ship(state(1, 5000, '2026-11-20T03:00:00.000Z', 1000), signal);
  expect((await log()).wal.open).toMatchObject({ name: name(1), to: 4000 });
  const next = await shipping.ship(state(1, 5000, '2026-11-20T03:00:10.000Z'), signal);
  expect(next.confirmed).toEqual({ lsn: formatLsn(startOf(1, SIZE) + 5000n), at: '2026-11-20T03:00:10.000Z' });
  expect((await log()).open?.parts.map(({ from, to }) => [from, to])).toEqual([
    [0, 4000],
    [4000, 5000],
  ]);
  const idle = await shipping.ship(state(1, 5000, '2026-11-20T09:00:00.000Z'), signal);
  expect((await log()).open?.parts).toHaveLength(2);
  // An idle server is up to date, however long it is idle.
  expect(idle.confirmed?.at).toBe('2026-11-20T09:00:00.000Z');
});

test('a time counts as reached only when the WAL that was written by then is stored', async () => {
  put(`${name(1)}.partial`);
  await shipping.ship(state(1, 5000, '2026-11-20T03:00:00.000Z', 1), signal);
  expect((await log()).wal.open?.reached).toBeUndefined();
  await shipping.ship(state(1, 6000, '2026-11-20T03:00:10.000Z', 500), signal);
  expect((await log()).wal.open?.reached).toBe('2026-11-20T03:00:00.000Z');
});

test('a segment that is missing is a gap, with the known reason', async () => {
  put(name(1));
  await shipping.ship(state(2, 0, '2026-11-20T03:00:00.000Z'), signal);
  shipping.expectGap('the replication slot was gone');
  put(name(4));
  await shipping.ship(state(5, 0, '2026-11-20T03:01:00.000Z'), signal);
  expect(gaps).toMatchObject([{ code: 'WAL_GAP' }]);
  const [gap] = (await log()).wal.gaps;
  expect(gap).toMatchObject({ to: formatLsn(startOf(4, SIZE)) });
  expect(gap?.why).toContain('2 segments');
  expect(gap?.why).toContain('the replication slot was gone');
  // The next segment follows, so there is no second gap.
  put(name(5));
  await shipping.ship(state(6, 0, '2026-11-20T03:02:00.000Z'), signal);
  expect(gaps).toHaveLength(1);
});

test('segments of a new timeline follow those of the old one, and history files are stored', async () => {
  put(name(1));
  writeFileSync(join(received, '00000002.history'), '1\t0/180000\tno recovery target specified\n');
  put(name(1, 2));
  await shipping.ship(state(2, 0, '2026-11-20T03:00:00.000Z'), signal);
  const { wal } = await log();
  expect(gaps).toEqual([]);
  expect(wal.segments.map((one) => one.name)).toEqual([name(1), name(1, 2)]);
  expect([...wal.histories]).toEqual([[2, [{ timeline: 1, until: 0x180000n }]]]);
});

test('a planted link is not followed, and a file of another size is not stored', async () => {
  writeFileSync(join(root, 'secret'), Buffer.alloc(SIZE, 's'));
  symlinkSync(join(root, 'secret'), join(received, name(1)));
  await expect(shipping.ship(state(2, 0, '2026-11-20T03:00:00.000Z'), signal)).rejects.toThrow();
  rmSync(join(received, name(1)));
  writeFileSync(join(received, name(1)), 'short');
  await expect(shipping.ship(state(2, 0, '2026-11-20T03:00:00.000Z'), signal)).rejects.toMatchObject({
    code: 'WAL_GAP',
  });
  expect(existsSync(join(root, 'backups/shop'))).toBe(false);
});
