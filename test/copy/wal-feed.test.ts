import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { CopyPlace } from '../../src/copy/context.ts';
import { WalFeed } from '../../src/copy/wal-feed.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import type { WalPage } from '../../src/store/wal/page.ts';
import { readWalLogs } from '../../src/store/wal/read-log.ts';
import { WalWriter } from '../../src/store/wal/write-log.ts';
import type { CopiedWal } from '../../src/wal/receiver-state.ts';
import { keyOf, nameOf, SIZE, SYSTEM, WalBench } from '../store/wal/bench.ts';

/** Copies get WAL while it is stored, between runs. */

let main: WalBench;
let copy: WalBench;
let bases: Manifest[];
let busy: boolean;
let made: boolean;
/** how often the feed looked at why it sends nothing */
let asked: number;
let copied: Record<string, CopiedWal>;
let warned: string[];
let said: string[];
let deps: ConstructorParameters<typeof WalFeed>[0];
let feed: WalFeed;
beforeEach(async () => {
  [main, copy] = [new WalBench(), new WalBench()];
  [bases, busy, made, copied, asked] = [[main.base(2)], false, true, {}, 0];
  const snapshots = async () => ({ snapshots: bases.map((manifest) => ({ manifest })), damaged: [] });
  const place: Pick<CopyPlace, 'name' | 'open'> = {
    name: 's3://copy',
    open: async () => ({ ...copy.repository, snapshots }) as unknown as Repository,
  };
  [warned, said] = [[], []];
  deps = {
    copies: [place],
    main: async () => main.repository,
    async isBusy() {
      if (busy) asked++;
      return busy;
    },
    state: {
      async copies() {
        if (!made) asked++;
        return made ? { [place.name]: { made: main.at } } : {};
      },
    },
    memory: {
      copied: async () => copied,
      async saveCopied(_, now) {
        copied = { ...now };
      },
    },
    log: { ...silentLog, warn: (line) => void warned.push(line), info: (line) => void said.push(line) },
    stallTimeoutMs: 60_000,
    partsMs: 20,
  };
  feed = new WalFeed(deps);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await feed.stop();
});

/** Stores segments as a receiver does: each page is noted. */
const store = async (from: number, to: number) => {
  const writer = await WalWriter.open(main.repository, {
    ...{ place: { project: 'shop', source: 'db.postgres', systemId: SYSTEM }, segmentSize: SIZE, home: 'here' },
    now: () => new Date(main.at),
    appended: (page: WalPage) => feed.note(page),
  });
  for (let number = from; number <= to; number++) {
    const name = nameOf(number);
    await writer.append({ segments: [{ name, reached: main.at, ...(await main.put(name)) }] });
  }
  return writer;
};
const names = async () => {
  const [log] = await readWalLogs(copy.repository, 'db.postgres');
  expect(log?.problems ?? []).toEqual([]);
  return log?.wal.segments.map(({ name }) => name) ?? [];
};
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => nameOf(from + i));
const has = (from: number, to: number) => vi.waitFor(async () => expect(await names()).toEqual(range(from, to)));

test('a copy gets each segment soon after it is stored, and one revision of the page', async () => {
  await store(1, 4);
  await has(2, 4);
  main.at = '2026-11-20T03:05:00.000Z';
  await store(5, 5);
  await has(2, 5);
  await vi.waitFor(() => expect(copied['s3://copy']).toMatchObject({ reached: main.at }));
  expect([...copy.objects.keys()].filter((key) => key.includes('/log/'))).toHaveLength(1);
});

test('parts of the segment that is being received follow', async () => {
  const writer = await store(1, 3);
  const part = { from: 0, to: 5, ...(await main.put(`${nameOf(4)}.00000005`)) };
  await writer.append({ open: { name: nameOf(4), parts: [part] } });
  await vi.waitFor(async () => {
    const [log] = await readWalLogs(copy.repository, 'db.postgres');
    expect(log?.wal.partials).toMatchObject([{ name: nameOf(4), to: 5 }]);
  });
});

test.each(['a run is under way', 'no run has made the copy'])('while %s, nothing is sent', async (why) => {
  busy = why.includes('under way');
  made = !why.includes('made');
  await store(1, 2);
  await vi.waitFor(() => expect(asked).toBeGreaterThan(0));
  expect(copy.objects.size).toBe(0);
});

test('a run that takes hours, such as a drill, does not keep WAL from a copy', async () => {
  busy = true;
  await store(1, 2);
  await vi.waitFor(() => expect(asked).toBeGreaterThan(0));
  deps.busyLimitMs = 0;
  await store(3, 3);
  await has(2, 3);
});

test('a failure that lasts is warned about once, whatever its message says, and its end is said once', async () => {
  const put = vi.spyOn(copy.destination, 'put');
  put.mockImplementation(async (key) => {
    throw new LifeboatError('DEST_FULL', `there is no room for ${key}`);
  });
  for (const number of [1, 2, 3]) {
    const puts = put.mock.calls.length;
    await store(number, number);
    if (number > 1) await vi.waitFor(() => expect(put.mock.calls.length).toBeGreaterThan(puts));
  }
  const messages = new Set(Object.values(copied).map(({ error }) => error?.message));
  expect(messages).toEqual(new Set([expect.stringContaining('there is no room for')]));
  expect({ warned, said }).toEqual({ warned: ['a copy lacks the newest WAL; trying again'], said: [] });
  put.mockRestore();
  for (const number of [4, 5]) {
    await store(number, number);
    await has(2, number);
  }
  expect({ warned, said }).toMatchObject({
    warned: { length: 1 },
    said: ['a copy gets the newest WAL again'],
  });
});

test('after a failure, the copy is looked at again, and the failure is recorded meanwhile', async () => {
  await store(1, 3);
  await has(2, 3);
  vi.spyOn(copy.destination, 'put').mockRejectedValueOnce(new Error('the disk is full'));
  await store(4, 4);
  await vi.waitFor(() => expect(copied['s3://copy']?.error?.message).toContain('the disk is full'));
  expect(await names()).toEqual(range(2, 3));
});

test('a copy gets the WAL of a later history, although a prune has removed the beginning of its page', async () => {
  await store(1, 3);
  await has(2, 3);
  await feed.stop();
  main.at = '2026-11-20T04:00:00.000Z';
  await (await main.open()).beginAnew({ at: main.at, timeline: 1, to: '0/400000', why: 'it went back' });
  await main.store(4, 8);
  main.at = '2026-11-20T04:10:00.000Z';
  bases.push(main.base(7));
  for (const number of [4, 5, 6]) main.objects.delete(keyOf(nameOf(number)));
  feed = new WalFeed(deps);
  await store(9, 9);
  await vi.waitFor(async () => {
    const logs = await readWalLogs(copy.repository, 'db.postgres');
    expect(logs.at(-1)?.wal.segments.map(({ name }) => name)).toEqual(range(7, 9));
  });
  expect(copied['s3://copy']?.error).toBeUndefined();
});
