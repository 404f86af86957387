import { afterEach, describe, expect, test, vi } from 'vitest';
import { findStart } from '../../../src/restore/point/find-start.ts';
import { serverTarget } from '../../../src/restore/point/server-target.ts';
import type { Target } from '../../../src/restore/point/target.ts';
import type { Manifest } from '../../../src/store/objects/manifest.ts';
import type { Repository } from '../../../src/store/repository/repository.ts';
import { formatLsn, startOf } from '../../../src/store/wal/names.ts';
import { SIZE, WalBench } from '../../store/wal/bench.ts';
import { WalBytes } from '../../store/wal/wal-bytes.ts';

const { signal } = new AbortController();

/** Returns a time as a record has it: microseconds since 2000. */
function timeBytes(time: string): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(Date.parse(time) - Date.UTC(2000, 0, 1)) * 1000n);
  return bytes;
}
const restorePoint = (name: string, time: string) => ({
  ...{ manager: 0, info: 0x70 },
  data: Buffer.concat([timeBytes(time), Buffer.concat([Buffer.from(name)], 64)]),
});
const commit = (xid: number, time: string) => ({ manager: 1, info: 0, xid, data: timeBytes(time) });
const abort = (xid: number, time: string) => ({ manager: 1, info: 0x20, xid, data: timeBytes(time) });
const numbers = (...values: number[]) => Buffer.from(Uint32Array.from(values).buffer);
/** A commit of a prepared transaction has its id only in the data (xact.h). */
const commitPrepared = (xid: number, time: string) => ({
  ...{ manager: 1, info: 0xb0 },
  data: Buffer.concat([timeBytes(time), numbers(1 << 4, xid), Buffer.from('name\0')]),
});
/** The end of one that did all that a record can tell. The numbers before its id are those of other things. */
const endPrepared = (xid: number, time: string, { kind = 0xb0, statistics = 3, invalidations = 300 } = {}) => ({
  ...{ manager: 1, info: kind },
  data: Buffer.concat([
    timeBytes(time),
    numbers(0x1df, 700, 1663, 2, 741, 742, 1, 1663, 700, 743, 2),
    numbers(...Array.from({ length: 2 * statistics }, () => 744)),
    numbers(invalidations, ...Array.from({ length: 4 * invalidations }, () => 745)),
    numbers(xid),
    Buffer.from('name\0'),
  ]),
});

/** A server with base backups in segments 2 and 6. Segment 5 is missing, so there are two windows. */
async function makeServer() {
  const one = new WalBytes(1);
  const points = { never: one.add(restorePoint('never', '2026-11-20T00:30:00Z')).at };
  one.fillTo(startOf(3, SIZE));
  const found = {
    first: one.add(restorePoint('v1', '2026-11-20T03:00:00Z')).at,
    second: one.add(restorePoint('v1', '2026-11-20T03:10:00Z')).at,
    commit: one.add(commit(700, '2026-11-20T03:20:00.123Z')).at,
    abort: one.add(abort(701, '2026-11-20T03:30:00Z')).at,
  };
  one.fillTo(startOf(6, SIZE));
  const two = new WalBytes(6);
  two.fillTo(startOf(6, SIZE) + 10_000n);
  const later = {
    third: two.add(restorePoint('v2', '2026-11-20T06:00:00Z')).at,
    prepared: two.add(commitPrepared(710, '2026-11-20T06:10:00Z')).at,
  };
  two.fillTo(startOf(8, SIZE));
  const bench = new WalBench();
  await bench.store(1, 4, { content: (number) => one.segment(number) });
  await bench.store(6, 7, { content: (number) => two.segment(number) });
  const manifests: Manifest[] = [bench.base(2)];
  bench.at = '2026-11-20T05:00:00.000Z';
  manifests.push(bench.base(6));
  const repository = bench.withSnapshots(manifests);
  return { repository, points: { ...points, ...found, ...later } };
}

const find = async (target: Target) => {
  const { repository, points } = await makeServer();
  const start = await findStart(repository, { source: 'db.postgres', signal, target }, undefined);
  const { log } = start;
  return { start, points, settings: await serverTarget({ repository, log, signal }, start, target) };
};

describe('a restore point', () => {
  test('is the newest one of its name, and the server stops right after it', async () => {
    const { start, points, settings } = await find({ name: 'v1' });
    expect([start.base.snapshot, start.marker?.at, start.marker?.time.toISOString()]).toEqual([
      ...['base-2', points.second, '2026-11-20T03:10:00.000Z'],
    ]);
    expect(settings).toEqual({ target: { lsn: formatLsn(points.second + 1n) }, mustReach: false });
  });

  test('is found in an older window, and from the newest base backup before it', async () => {
    expect((await find({ name: 'v2' })).start.base.snapshot).toBe('base-6');
    expect((await find({ name: 'v1' })).start.window.toLsn).toBe(formatLsn(startOf(5, SIZE)));
  });

  test.each(['v', 'v11', 'never'])('%s does not exist behind a base backup', async (name) => {
    await expect(find({ name })).rejects.toMatchObject({
      code: 'PITR_TIME',
      hint: expect.stringContaining('check its name'),
    });
  });
});

describe('in several histories of a server', () => {
  /** A server with a history of its own, from segment 4 on: an older copy of its data was put in place. */
  async function findIn(target: Target) {
    const [one, two] = [new WalBytes(2), new WalBytes(4)];
    one.fillTo(startOf(3, SIZE));
    one.add(restorePoint('before', '2026-11-20T03:00:00Z'));
    one.add(commit(700, '2026-11-20T03:10:00Z'));
    one.add(commit(701, '2026-11-20T03:20:00Z'));
    one.fillTo(startOf(4, SIZE));
    two.fillTo(startOf(5, SIZE));
    two.add(commit(701, '2026-11-20T05:00:00Z'));
    two.fillTo(startOf(6, SIZE));
    const bench = new WalBench();
    await bench.store(2, 3, { content: (number) => one.segment(number) });
    const manifests = [bench.base(2)];
    bench.at = '2026-11-20T04:00:00.000Z';
    await (await bench.open()).beginAnew({
      at: bench.at,
      timeline: 1,
      to: formatLsn(startOf(4, SIZE)),
      why: 'it went back',
    });
    await bench.store(4, 5, { content: (number) => two.segment(number) });
    bench.at = '2026-11-20T04:10:00.000Z';
    manifests.push(bench.base(4));
    const request = { source: 'db.postgres', signal, target };
    const { base, marker } = await findStart(bench.withSnapshots(manifests), request, undefined);
    return [base.snapshot, marker?.time.toISOString()];
  }

  test('a marker is that of the newest history that has it', async () => {
    expect(await findIn({ xid: '701' })).toEqual(['base-4', '2026-11-20T05:00:00.000Z']);
    expect(await findIn({ xid: '700' })).toEqual(['base-2', '2026-11-20T03:10:00.000Z']);
    expect(await findIn({ name: 'before' })).toEqual(['base-2', '2026-11-20T03:00:00.000Z']);
    await expect(findIn({ xid: '702' })).rejects.toMatchObject({ code: 'PITR_TIME' });
  });
});

describe('a transaction', () => {
  test.each([
    ['700', 'base-2'],
    ['701', 'base-2'],
    // With the epoch, as pg_current_xact_id() prints it.
    [String(2 ** 32 + 700), 'base-2'],
    ['710', 'base-6'],
  ])('%s is found behind %s, and the server looks for it', async (xid, snapshot) => {
    const { start, settings } = await find({ xid });
    expect(start.base.snapshot).toBe(snapshot);
    expect(settings).toEqual({ target: { xid }, mustReach: true });
  });

  test('that the WAL does not have is refused', async () => {
    await expect(find({ xid: '702' })).rejects.toMatchObject({ code: 'PITR_TIME' });
  });
});

describe('the end of a prepared transaction', () => {
  const time = '2026-11-20T04:00:00Z';
  /** Returns the position of the record that an id names, or the code of the error. */
  async function findIn(wal: WalBytes, xid: number): Promise<unknown> {
    const bench = new WalBench();
    await bench.store(2, 3, { content: (number) => wal.segment(number) });
    const manifest = bench.base(2);
    const repository = {
      ...bench.repository,
      snapshots: async () => ({ snapshots: [{ manifest }], damaged: [] }),
      resolve: async () => ({ manifest }),
    } as unknown as Repository;
    const request = { source: 'db.postgres', signal, target: { xid: String(xid) } };
    return findStart(repository, request, undefined).then(
      ({ marker }) => marker?.at,
      ({ code }) => code,
    );
  }

  test.each([
    ['Postgres 17', 0xd116, {}],
    ['Postgres 18', 0xd118, { statistics: 4 }],
    ['Postgres 17, rolled back', 0xd116, { kind: 0xc0 }],
  ])('of %s is found by its id, and by no other number in its record', async (_, magic, options) => {
    const wal = new WalBytes(2, magic);
    wal.fillTo(startOf(3, SIZE));
    const before = wal.add(commit(741, '2026-11-20T03:00:00Z')).at;
    const ended = wal.add(endPrepared(710, time, options)).at;
    wal.fillTo(startOf(4, SIZE));
    expect(await findIn(wal, 710)).toBe(ended);
    expect(await findIn(wal, 741)).toBe(before);
    for (const other of [700, 742, 743, 744, 745]) expect(await findIn(wal, other)).toBe('PITR_TIME');
  });

  test('of which the record is damaged is not found', async () => {
    const wal = new WalBytes(2);
    wal.fillTo(startOf(3, SIZE));
    wal.add({ manager: 1, info: 0xb0, data: Buffer.concat([timeBytes(time), numbers(0x12, 0xffff_ffff, 710)]) });
    wal.add({ manager: 1, info: 0xb0, data: Buffer.concat([timeBytes(time), numbers(0x12)]) });
    wal.add({ manager: 1, info: 0xb0, data: timeBytes(time) });
    wal.add({ manager: 1, info: 0x30, data: Buffer.concat([timeBytes(time), numbers(0x10, 710)]) });
    wal.fillTo(startOf(4, SIZE));
    expect(await findIn(wal, 710)).toBe('PITR_TIME');
  });
});

describe('the search for a name', () => {
  afterEach(() => void vi.useRealTimers());

  /** A server that left its first timeline in segment 5. Each timeline has a base backup of its own, too. */
  async function search(name: string, onGet = () => {}) {
    const one = new WalBytes(2);
    one.fillTo(startOf(3, SIZE));
    const points = { shared: one.add(restorePoint('shared', '2026-11-20T01:00:00Z')).at };
    one.fillTo(startOf(5, SIZE) + 5000n);
    const [two, until] = [one.fork(), one.end];
    const former = one.add(restorePoint('former', '2026-11-20T02:00:00Z')).at;
    one.fillTo(startOf(7, SIZE));
    two.fillTo(startOf(6, SIZE));
    const bench = new WalBench();
    await bench.store(2, 6, { content: (number) => one.segment(number) });
    const writer = await bench.open();
    const history = { name: '00000002.history', ancestors: [{ timeline: 1, until }] };
    await writer.append({ histories: [{ ...history, ...(await bench.put(history.name)) }] });
    bench.at = '2026-11-20T05:00:00.000Z';
    await bench.store(5, 5, { timeline: 2, content: (number) => two.segment(number) });
    const manifests = [bench.base(2)];
    const got: string[] = [];
    const repository = {
      ...bench.repository,
      destination: {
        ...bench.destination,
        get: async (key: string) => {
          if (/[0-9A-F]{24}-/.test(key)) {
            got.push(/0([0-9A-F])[0-9A-F]{8}[0-9A-F]{7}([0-9A-F])-/.exec(key)?.slice(1).join('/') ?? key);
            onGet();
          }
          return bench.destination.get(key);
        },
      },
      snapshots: async () => ({ snapshots: manifests.map((manifest) => ({ manifest })), damaged: [] }),
      resolve: async () => ({ manifest: manifests[0] }),
    } as unknown as Repository;
    const lines: string[] = [];
    const request = { source: 'db.postgres', signal, target: { name }, say: (line: string) => void lines.push(line) };
    const found = await findStart(repository, request, undefined).catch(({ code }) => code);
    return { got, lines, found, points: { ...points, former } };
  }

  test('reads WAL that two timelines have in common once', async () => {
    expect((await search('none')).got).toEqual(['2/5', '1/4', '1/3', '1/2', '1/6', '1/5']);
    const { found, points } = await search('former');
    expect([found.marker?.at, found.window?.timeline]).toEqual([points.former, 1]);
    const shared = await search('shared');
    expect([shared.found.marker?.at, shared.found.window?.timeline]).toEqual([shared.points.shared, 2]);
  });

  test('says from time to time how far it is', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const { lines } = await search('none', () => vi.advanceTimersByTime(8000));
    expect(lines).toEqual([
      expect.stringContaining('looking for restore point none'),
      ...[4, 2].map((number) => expect.stringContaining(`timeline 2 after ${formatLsn(startOf(number, SIZE))};`)),
      expect.stringContaining(`timeline 1 after ${formatLsn(startOf(5, SIZE))};`),
    ]);
  });
});

describe('a time after which a server went back and on, on another timeline', () => {
  /** At 15:00, the server was recovered to 14:00: to before a transaction of 14:00:05. */
  async function twoTimelines() {
    const one = new WalBytes(2);
    one.fillTo(startOf(3, SIZE) + 5000n);
    one.add(commit(700, '2026-11-20T13:50:00Z'));
    const [two, until] = [one.fork(), one.end];
    for (const time of ['14:00:05', '14:40:00']) one.add(commit(701, `2026-11-20T${time}Z`));
    two.add({});
    two.add(commit(701, '2026-11-20T15:10:00Z'));
    const bench = new WalBench();
    const hours = new Map([
      [2, '13'],
      [3, '15'],
    ]);
    const reachedOf = (number: number) => `2026-11-20T${hours.get(number)}:00:00.000Z`;
    await bench.store(2, 3, { content: (number) => one.segment(number), reached: reachedOf });
    const writer = await bench.open();
    const history = { name: '00000002.history', ancestors: [{ timeline: 1, until }] };
    await writer.append({ histories: [{ ...history, ...(await bench.put(history.name)) }] });
    const reached = () => '2026-11-20T16:00:00.000Z';
    await bench.store(3, 3, { timeline: 2, content: (number) => two.segment(number), reached });
    const snapshots = [{ manifest: bench.base(2) }];
    return {
      ...bench.repository,
      snapshots: async () => ({ snapshots, damaged: [] }),
      resolve: async () => snapshots[0],
    } as unknown as Repository;
  }
  const timelineAt = async (time: string) => {
    const target = { date: new Date(`2026-11-20T${time}Z`), text: time };
    const start = await findStart(await twoTimelines(), { source: 'db.postgres', signal, target }, undefined);
    return start.window.timeline;
  };

  test.each(['13:20:00', '13:50:00', '14:00:04.999', '15:30:00'])('%s needs no timeline', async (time) => {
    expect(await timelineAt(time)).toBe(2);
  });

  test('a transaction of each timeline may have the same number, so its number is not enough', async () => {
    const find = async (xid: string, timeline?: number) => {
      const aim = { target: { xid }, ...(timeline === undefined ? {} : { timeline }) };
      const { window, marker } = await findStart(
        await twoTimelines(),
        { source: 'db.postgres', signal, ...aim },
        undefined,
      );
      return [window.timeline, marker?.time.toISOString()];
    };
    await expect(find('701')).rejects.toMatchObject({
      code: 'PITR_TIME',
      message: expect.stringContaining('transaction 701 is a point on each of them: 1, 2'),
    });
    expect(await find('701', 1)).toEqual([1, '2026-11-20T14:40:00.000Z']);
    expect(await find('701', 2)).toEqual([2, '2026-11-20T15:10:00.000Z']);
    // Both timelines have it.
    expect(await find('700')).toEqual([2, '2026-11-20T13:50:00.000Z']);
  });

  test.each(['14:00:05', '14:30:00', '14:59:59'])('%s does: only the former timeline has it', async (time) => {
    await expect(timelineAt(time)).rejects.toMatchObject({
      code: 'PITR_TIME',
      message: expect.stringContaining('a point on each of them: 1, 2'),
    });
  });
});

test('a position inside a record stands for the records before it', async () => {
  const { points, settings } = await find({ lsn: formatLsn((await makeServer()).points.commit + 8n) });
  expect(settings).toEqual({ target: { lsn: formatLsn(points.commit) }, mustReach: false });
  expect((await find({ lsn: formatLsn(points.commit) })).settings.target).toEqual({ lsn: formatLsn(points.commit) });
});
