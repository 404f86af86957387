import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { createLocalDestination } from '../../../src/destinations/local.ts';
import type { SlotState } from '../../../src/sources/postgres/wal/slot.ts';
import { Signing } from '../../../src/store/repository/signing.ts';
import { formatLsn, segmentName, startOf } from '../../../src/store/wal/names.ts';
import type { WalPage } from '../../../src/store/wal/page.ts';
import { readWalLogs } from '../../../src/store/wal/read-log.ts';
import { WalWriter } from '../../../src/store/wal/write-log.ts';
import { Shipping } from '../../../src/wal/shipping.ts';
import { scratchBase } from '../../store/helpers.ts';
import { WalBytes } from '../../store/wal/wal-bytes.ts';

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
  shipping = await open();
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Starts to ship, as a daemon does after its start. */
async function open(at = repository(), appended?: (page: WalPage) => void): Promise<Shipping> {
  const now = () => new Date('2026-11-20T03:00:00Z');
  const options = { place, segmentSize: SIZE, home: 'here', now, ...(appended ? { appended } : {}) };
  const writer = await WalWriter.open(at, options);
  const onGap = (error: LifeboatError) => gaps.push(error);
  return new Shipping({ writer, directory: received, segmentSize: SIZE, now, onGap });
}

/** The server has written up to an offset in a segment, and the receiver has confirmed it. */
const state = (number: number, offset: number, at: string, behind = 0): SlotState => {
  const flushed = startOf(number, SIZE) + BigInt(offset);
  return { slot: { active: true, received: flushed - BigInt(behind) }, inserting: flushed, flushed, at, timeline: 1 };
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
  expect((await log()).wal.partials).toMatchObject([{ name: name(1), to: 4000 }]);
  const next = await shipping.ship(state(1, 5000, '2026-11-20T03:00:10.000Z'), signal);
  expect(next.confirmed).toEqual({
    timeline: 1,
    lsn: formatLsn(startOf(1, SIZE) + 5000n),
    at: '2026-11-20T03:00:10.000Z',
  });
  expect((await log()).partials.get(name(1))?.parts.map(({ from, to }) => [from, to])).toEqual([
    [0, 4000],
    [4000, 5000],
  ]);
  const idle = await shipping.ship(state(1, 5000, '2026-11-20T09:00:00.000Z'), signal);
  expect((await log()).partials.get(name(1))?.parts).toHaveLength(2);
  // An idle server is up to date, however long it is idle.
  expect(idle.confirmed?.at).toBe('2026-11-20T09:00:00.000Z');
});

test('copies hear of a page after which the destination failed, also if no more WAL follows', async () => {
  const at = repository();
  const fed: number[] = [];
  shipping = await open(at, ({ segments }) => fed.push(segments.length));
  const list = vi.spyOn(at.destination, 'list');
  list.mockImplementationOnce(() => {
    throw new LifeboatError('DEST_UNREACHABLE', 'no answer');
  });
  put(name(1));
  const ship = () => shipping.ship(state(2, 0, '2026-11-20T03:00:00.000Z'), signal);
  await expect(ship()).rejects.toThrow('no answer');
  expect(fed).toEqual([]);
  for (let i = 0; i < 2; i++) await ship();
  expect(fed).toEqual([1]);
});

test('a time counts as reached only when the WAL that was written by then is stored', async () => {
  put(`${name(1)}.partial`);
  await shipping.ship(state(1, 5000, '2026-11-20T03:00:00.000Z', 1), signal);
  expect((await log()).wal.partials[0]?.reached).toBeUndefined();
  await shipping.ship(state(1, 6000, '2026-11-20T03:00:10.000Z', 500), signal);
  expect((await log()).wal.partials[0]?.reached).toBe('2026-11-20T03:00:00.000Z');
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

test('a gap before an open segment is recorded once, also after a restart', async () => {
  put(name(1));
  await shipping.ship(state(2, 0, '2026-11-20T03:00:00.000Z'), signal);
  rmSync(join(received, name(1)));
  put(`${name(4)}.partial`);
  await shipping.ship(state(4, 5000, '2026-11-20T03:01:00.000Z'), signal);
  expect(gaps).toHaveLength(1);
  await (await open()).ship(state(4, 6000, '2026-11-20T03:02:00.000Z'), signal);
  renameSync(join(received, `${name(4)}.partial`), join(received, name(4)));
  await (await open()).ship(state(5, 0, '2026-11-20T03:03:00.000Z'), signal);
  expect(gaps).toHaveLength(1);
  expect((await log()).wal.gaps).toMatchObject([{ timeline: 1, to: formatLsn(startOf(4, SIZE)) }]);
});

test('a gap between segments that arrive together is recorded', async () => {
  for (const number of [1, 2, 5, 6]) put(name(number));
  await shipping.ship(state(7, 0, '2026-11-20T03:00:00.000Z'), signal);
  expect((await log()).wal.gaps).toMatchObject([{ timeline: 1, to: formatLsn(startOf(5, SIZE)) }]);
});

test('the beginning of a segment that the server left stays, and the next segment is a gap', async () => {
  put(name(1));
  put(`${name(2)}.partial`);
  await shipping.ship(state(2, 5000, '2026-11-20T03:00:00.000Z'), signal);
  rmSync(join(received, `${name(2)}.partial`));
  put(`${name(3)}.partial`);
  await shipping.ship(state(3, 700, '2026-11-20T03:01:00.000Z'), signal);
  const { wal, partials } = await log();
  expect(wal.partials).toMatchObject([
    { name: name(2), to: 5000 },
    { name: name(3), to: 700 },
  ]);
  const keys = [...partials.values()].flatMap(({ parts }) => parts.map(({ key }) => key));
  expect(keys.every((key) => existsSync(join(root, 'backups', key)))).toBe(true);
  expect(wal.gaps).toMatchObject([{ to: formatLsn(startOf(3, SIZE)) }]);
});

test('after a restart, a segment reaches at least the time that the stored WAL has reached', async () => {
  put(`${name(1)}.partial`);
  await shipping.ship(state(1, 5000, '2026-11-20T03:00:00.000Z'), signal);
  renameSync(join(received, `${name(1)}.partial`), join(received, name(1)));
  // The server is further by now, and the first look at it comes after the end of this segment.
  await (await open()).ship(state(2, 5000, '2026-11-20T03:30:00.000Z'), signal);
  const [segment] = (await log()).wal.segments;
  expect(segment).toMatchObject({ name: name(1), reached: '2026-11-20T03:00:00.000Z' });
});

test('a server that went back to older data on its timeline is refused, and nothing of it is stored', async () => {
  for (const number of [1, 2, 3]) put(name(number));
  await shipping.ship(state(4, 0, '2026-11-20T03:00:00.000Z'), signal);
  put(`${name(2)}.partial`, 'y');
  await expect(shipping.ship(state(2, 5000, '2026-11-20T03:10:00.000Z'), signal)).rejects.toMatchObject({
    code: 'WAL_DIVERGED',
  });
  expect((await log()).wal.partials).toEqual([]);
});

describe('a server that went back, and is further than the stored WAL when it is seen again', () => {
  beforeEach(async () => {
    put(name(1));
    put(`${name(2)}.partial`);
    await shipping.ship(state(2, 5000, '2026-11-20T03:00:00.000Z'), signal);
    expect((await log()).last?.page.tail).toMatchObject({ name: name(2), to: 5000 });
  });
  const stored = async () => (await log()).wal.partials;

  test('is refused if the open segment has other bytes', async () => {
    put(`${name(2)}.partial`, 'y');
    const later = state(2, 9000, '2026-11-20T03:10:00.000Z');
    await expect((await open()).ship(later, signal)).rejects.toMatchObject({ code: 'WAL_DIVERGED' });
    expect(await stored()).toMatchObject([{ name: name(2), to: 5000 }]);
  });

  test('is refused if a complete segment has other bytes', async () => {
    rmSync(join(received, `${name(2)}.partial`));
    put(name(2), 'y');
    put(`${name(3)}.partial`, 'y');
    const later = state(3, 9000, '2026-11-20T03:10:00.000Z');
    await expect((await open()).ship(later, signal)).rejects.toMatchObject({ code: 'WAL_DIVERGED' });
    expect((await log()).wal.segments.map((one) => one.name)).toEqual([name(1)]);
  });

  test('is refused if the spool went back with it, and has segments under names that are stored', async () => {
    rmSync(join(received, `${name(2)}.partial`));
    for (const number of [2, 3]) put(name(number));
    await shipping.ship(state(4, 0, '2026-11-20T03:05:00.000Z'), signal);
    for (const file of readdirSync(received)) rmSync(join(received, file));
    put(name(1));
    const later = await open();
    for (const number of [2, 3, 4]) put(name(number), 'y');
    await expect(later.ship(state(5, 0, '2026-11-20T03:10:00.000Z'), signal)).rejects.toMatchObject({
      code: 'WAL_DIVERGED',
    });
    expect((await log()).wal.segments.map((one) => one.name)).toEqual([1, 2, 3].map((number) => name(number)));
  });

  test('is not there if the bytes are the same', async () => {
    await (await open()).ship(state(2, 9000, '2026-11-20T03:10:00.000Z'), signal);
    expect(await stored()).toMatchObject([{ name: name(2), to: 9000 }]);
    // The hash goes on from the bytes before.
    const whole = createHash('sha256').update(Buffer.alloc(9000, 'x')).digest('hex');
    expect((await log()).last?.page.tail).toEqual({ name: name(2), to: 9000, sha256: whole });
  });

  test('is judged only by bytes that were received again', async () => {
    put(`${name(2)}.partial`, 'y');
    const later = await open();
    await later.ship(state(2, 9000, '2026-11-20T03:10:00.000Z', 4500), signal);
    put(`${name(2)}.partial`, 'x');
    await later.ship(state(2, 9000, '2026-11-20T03:10:01.000Z'), signal);
    expect(await stored()).toMatchObject([{ name: name(2), to: 9000 }]);
  });
});

describe('a server that went back, and goes on after the last complete segment that was received', () => {
  let wal: WalBytes;
  /** position of the record over the end of the segment */
  let last: bigint;
  beforeEach(async () => {
    wal = new WalBytes(1);
    wal.add({ prev: 0n });
    wal.fillTo(startOf(2, SIZE) - 4000n);
    ({ at: last } = wal.add({ data: Buffer.alloc(5000) }));
    writeFileSync(join(received, name(1)), wal.segment(1));
    await shipping.ship(state(2, 0, '2026-11-20T03:00:00.000Z'), signal);
    expect(readdirSync(received)).toEqual([name(1)]);
  });
  /** Lets the server write a record that names the one before it, with an error. Returns whether it is refused. */
  const goOn = async (partial: string, wrong: bigint) => {
    wal.add({ prev: last + wrong });
    const later = await open();
    writeFileSync(join(received, `${name(2)}${partial}`), wal.segment(2));
    return later.ship(state(partial ? 2 : 3, partial ? 8000 : 0, '2026-11-20T03:10:00.000Z'), signal).then(
      () => undefined,
      ({ code }: LifeboatError) => code,
    );
  };

  test.each(['.partial', ''])('is refused if a segment (%s) does not follow', async (partial) => {
    expect((await log()).last?.page.tail?.to).toBe(SIZE);
    expect(await goOn(partial, 64n)).toBe('WAL_DIVERGED');
    expect((await log()).wal.segments.map((one) => one.name)).toEqual([name(1)]);
    expect((await log()).wal.partials).toEqual([]);
  });

  test.each(['.partial', ''])('is not there if a segment (%s) follows', async (partial) => {
    expect(await goOn(partial, 0n)).toBeUndefined();
  });
});

test('another history of the same timeline is refused: two copies of a server were recovered to it', async () => {
  writeFileSync(join(received, '00000002.history'), '1\t0/180000\tno recovery target specified\n');
  put(name(1, 2));
  const there = { ...state(2, 0, '2026-11-20T03:00:00.000Z'), timeline: 2 };
  await shipping.ship(there, signal);
  writeFileSync(join(received, '00000002.history'), '1\t0/190000\tno recovery target specified\n');
  await expect(shipping.ship(there, signal)).rejects.toMatchObject({ code: 'WAL_DIVERGED' });
});

test('a clock that goes back is refused, also across a restart, and a small correction is not', async () => {
  put(name(1));
  await shipping.ship(state(2, 0, '2026-11-20T03:00:00.000Z'), signal);
  await shipping.ship(state(2, 100, '2026-11-20T02:59:55.000Z'), signal);
  const back = state(2, 200, '2026-11-20T02:59:00.000Z');
  await expect(shipping.ship(back, signal)).rejects.toMatchObject({ code: 'CLOCK_JUMPED' });
  await expect((await open()).ship(back, signal)).rejects.toMatchObject({ code: 'CLOCK_JUMPED' });
});

test('the position of one timeline dates no segment of another one', async () => {
  put(name(1));
  // The server went on elsewhere, at a position before the end of that segment.
  await shipping.ship({ ...state(1, 4000, '2026-11-20T04:00:00.000Z'), timeline: 2 }, signal);
  expect((await log()).wal.segments).toMatchObject([{ name: name(1) }]);
  expect((await log()).wal.segments[0]?.reached).toBeUndefined();
});

test('the end of the stored WAL is that of the timeline on which the server writes', async () => {
  for (const number of [1, 2, 3, 4]) put(name(number));
  await shipping.ship(state(5, 0, '2026-11-20T03:00:00.000Z'), signal);
  for (const file of readdirSync(received)) rmSync(join(received, file));
  // A recovery in place took the server back to segment 2, from which timeline 2 goes on.
  writeFileSync(join(received, '00000002.history'), '1\t0/280000\tbefore a time\n');
  put(`${name(2, 2)}.partial`);
  const back = { ...state(2, 900_000, '2026-11-20T03:10:00.000Z'), timeline: 2 };
  const behind = { ...back, slot: { active: true, received: back.flushed - 1000n } };
  const shipped = await shipping.ship(behind, signal);
  expect(shipped.stored).toBe(back.flushed - 1000n);
  expect(shipped.confirmed?.timeline).toBe(1);
  expect(gaps).toEqual([]);
  const next = await shipping.ship(back, signal);
  expect(next.confirmed).toEqual({ timeline: 2, lsn: formatLsn(back.flushed), at: '2026-11-20T03:10:00.000Z' });
  expect((await log()).wal.segments.map((one) => one.name)).toEqual([1, 2, 3, 4].map((n) => name(n)));
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

test('what was received of a timeline that the server has left is stored to its end', async () => {
  const partial = Buffer.alloc(SIZE);
  partial.fill('x', 0, 5000);
  writeFileSync(join(received, `${name(1)}.partial`), partial);
  await shipping.ship(state(1, 4000, '2026-11-20T03:00:00.000Z'), signal);
  expect((await log()).wal.partials).toMatchObject([{ name: name(1), to: 4000 }]);
  // The server went back to an earlier position, on a timeline of its own. Its segment is not the one that is here.
  await shipping.ship({ ...state(1, 4500, '2026-11-20T04:00:00.000Z'), timeline: 2 }, signal);
  expect((await log()).wal.partials).toMatchObject([{ name: name(1), to: 5000 }]);
  expect(gaps).toEqual([]);
});

test('a file that the receiver had not filled when it died is no obstacle', async () => {
  writeFileSync(join(received, `${name(2)}.partial`), Buffer.alloc(SIZE / 2));
  put(name(1, 2));
  await shipping.ship({ ...state(2, 0, '2026-11-20T04:00:00.000Z'), timeline: 2 }, signal);
  expect((await log()).wal.segments.map((one) => one.name)).toEqual([name(1, 2)]);
  expect((await log()).wal.partials).toEqual([]);
});

test('a file that the receiver is filling is stored once it has its size', async () => {
  writeFileSync(join(received, `${name(1)}.partial`), Buffer.alloc(SIZE / 2));
  const shipped = await shipping.ship(state(1, 4000, '2026-11-20T03:00:00.000Z'), signal);
  expect(shipped.stored).toBeUndefined();
  put(`${name(1)}.partial`);
  await shipping.ship(state(1, 4000, '2026-11-20T03:00:01.000Z'), signal);
  expect((await log()).wal.partials).toMatchObject([{ name: name(1), to: 4000 }]);
  expect(gaps).toEqual([]);
});
