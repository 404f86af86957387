import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { startOf } from '../../src/store/wal/names.ts';
import { readWalLogs } from '../../src/store/wal/read-log.ts';
import { setAside } from '../../src/wal/spool/aside.ts';
import { Waiting } from '../../src/wal/waiting.ts';
import { scratchBase } from '../store/helpers.ts';
import { nameOf, SIZE, SYSTEM, WalBench } from '../store/wal/bench.ts';
import { WalBytes } from '../store/wal/wal-bytes.ts';

const { signal } = new AbortController();
let directory: string;
let bench: WalBench;
let repository: Repository;
let alarms: string[];
beforeEach(async () => {
  directory = mkdtempSync(join(scratchBase, 'lifeboat-waiting-'));
  bench = new WalBench();
  repository = bench.repository;
  alarms = [];
  await bench.store(1, 1);
  put(2);
});
afterEach(() => rmSync(directory, { recursive: true }));

function put(number: number, system = SYSTEM): void {
  const content = Buffer.alloc(SIZE, 'x');
  content.writeUInt16LE(2, 2);
  content.writeBigUInt64LE(BigInt(system), 24);
  content.writeUInt32LE(SIZE, 32);
  writeFileSync(join(directory, nameOf(number)), content);
}

const waiting = (open = async () => repository) =>
  new Waiting({
    deps: {
      ...{ project: 'shop', home: async () => 'here', log: silentLog, now: () => new Date(bench.at) },
      ...{
        repository: open,
        feed: () => undefined,
        alarm: (_, __, { message }) => void alarms.push(message),
      },
    },
    ...{ source: 'db.postgres', directory },
    storing: { watched: (work, until) => work(until, () => undefined) },
    status: { isOf: () => true },
  });

const setAsideNow = () => {
  const aside = `${directory}.aside`;
  const [event = ''] = readdirSync(aside);
  const names = readdirSync(join(aside, event)).sort();
  rmSync(aside, { recursive: true });
  return names;
};

test('what waits is stored while its server does not answer', async () => {
  await waiting().storeOnce(signal);
  const [log] = await readWalLogs(bench.repository, 'db.postgres');
  expect(log?.wal.segments.map(({ name }) => name)).toEqual([nameOf(1), nameOf(2)]);
});

test('what waits stays there while the log is unusable: its server says where another history begins', async () => {
  for (const key of bench.objects.keys()) if (key.endsWith('.json')) bench.objects.set(key, 'damaged');
  const before = [...bench.objects.keys()];
  await waiting().storeOnce(signal);
  expect([...bench.objects.keys()]).toEqual(before);
  expect(readdirSync(directory)).toEqual([nameOf(2)]);
});

test('people hear about a gap in what waits, also if the destination fails right after its page is stored', async () => {
  rmSync(join(directory, nameOf(2)));
  put(5);
  const { destination } = bench.repository;
  const list: typeof destination.list = (prefix, options) => {
    const isAfterGap = [...bench.objects.values()].some((content) => content.includes('"gaps":[{'));
    if (isAfterGap) throw new LifeboatError('DEST_UNREACHABLE', 'the destination does not answer');
    return destination.list(prefix, options);
  };
  repository = { ...bench.repository, destination: { ...destination, list } } as unknown as Repository;
  await waiting().storeOnce(signal);
  expect(alarms).toEqual([expect.stringContaining('3 segments of WAL')]);
});

test('after each page, only later pages and revisions are listed', async () => {
  const { destination } = bench.repository;
  const seen: string[] = [];
  async function* list(...[prefix, options]: Parameters<typeof destination.list>) {
    for await (const object of destination.list(prefix, options)) {
      if (prefix.endsWith('/log/')) seen.push(object.key);
      yield object;
    }
  }
  // Nothing may be deleted, so earlier revisions stay.
  const refuse = async () => {
    throw new LifeboatError('DELETE_REFUSED', 'the credentials do not allow it');
  };
  repository = { ...bench.repository, destination: { ...destination, list, delete: refuse } } as unknown as Repository;
  await waiting().storeOnce(signal);
  const pages = [...bench.objects.keys()].filter((key) => key.includes('/log/'));
  expect([pages.length, seen]).toEqual([2, []]);
});

test('a destination that hangs does not keep the end of a receiver waiting', async () => {
  const hung = waiting(() => new Promise(() => undefined));
  const begun = performance.now();
  await hung.storeOnce(AbortSignal.timeout(200));
  expect(performance.now() - begun).toBeLessThan(5000);
}, 10_000);

test('what waits is set aside after the server went back, if no page says which bytes the log ends with', async () => {
  const present = { inserting: 0n, flushed: 5000n, timeline: 1, at: bench.at };
  const names = async () =>
    (await readWalLogs(bench.repository, 'db.postgres'))[0]?.wal.segments.map(({ name }) => name);
  await waiting().leaveDiverged(present, signal);
  expect(await names()).toEqual([nameOf(1)]);
  expect(alarms).toEqual([expect.stringContaining('Lifeboat sets it aside')]);
  rmSync(`${directory}.aside`, { recursive: true });
  // A page that says so.
  put(2);
  await waiting().storeOnce(signal);
  put(3);
  await waiting().leaveDiverged(present, signal);
  expect(await names()).toEqual([1, 2, 3].map((number) => nameOf(number)));
});

test('WAL is set aside from its end, so that what an interruption leaves follows what is stored', async () => {
  put(3);
  const at = new Date('2026-11-20T03:00:00Z');
  // No file can replace a directory.
  mkdirSync(join(`${directory}.aside`, '2026-11-20T03-00-00.000Z', nameOf(2)), { recursive: true });
  await expect(setAside(directory, at)).rejects.toThrow();
  rmSync(`${directory}.aside`, { recursive: true });
  expect(readdirSync(directory)).toEqual([nameOf(2)]);
});

test('what waits is not stored if it is of several servers, or of nobody', async () => {
  put(3, '42');
  expect(await waiting().storeRest(signal)).toMatchObject({ message: 'it is of several servers' });
  for (const number of [2, 3]) writeFileSync(join(directory, nameOf(number)), Buffer.alloc(SIZE));
  expect(await waiting().storeRest(signal)).toMatchObject({ message: 'nobody knows which server it is of' });
  // It makes room for the WAL of another server, and is kept.
  await waiting().leaveAll(signal);
  expect([setAsideNow(), readdirSync(directory)]).toEqual([[nameOf(2), nameOf(3)], []]);
});

test('what waits of a later timeline is set aside after the server went back, if the log is unusable', async () => {
  for (const key of bench.objects.keys()) if (key.endsWith('.json')) bench.objects.set(key, 'damaged');
  const name = `00000002${nameOf(2).slice(8)}`;
  renameSync(join(directory, nameOf(2)), join(directory, name));
  await waiting().leaveDiverged({ inserting: 0n, flushed: 5000n, timeline: 1, at: bench.at }, signal);
  expect([setAsideNow(), readdirSync(directory)]).toEqual([[name], []]);
});

test('of a server that is gone, what follows the creation of a tablespace is set aside', async () => {
  const wrote = new WalBytes(2);
  wrote.fillTo(startOf(3, SIZE) + 9000n);
  wrote.add({ manager: 5, data: Buffer.from('\0\0\0\0/fast\0') });
  wrote.fillTo(startOf(5, SIZE) + 4000n);
  for (const number of [2, 3, 4]) writeFileSync(join(directory, nameOf(number)), wrote.segment(number));
  await waiting().storeOnce(signal);
  expect(alarms).toEqual([]);
  await waiting().leaveAll(signal);
  const [log] = await readWalLogs(bench.repository, 'db.postgres');
  expect(log?.wal.segments.map(({ name }) => name)).toEqual([nameOf(1), nameOf(2)]);
  expect([setAsideNow(), readdirSync(directory)]).toEqual([[nameOf(3), nameOf(4)], []]);
  expect(alarms).toEqual([expect.stringContaining('Lifeboat sets it aside: a tablespace was created')]);
});

test('people hear about a gap in what waits', async () => {
  rmSync(join(directory, nameOf(2)));
  put(5);
  await waiting().storeOnce(signal);
  const [log] = await readWalLogs(bench.repository, 'db.postgres');
  expect(log?.wal.gaps).toHaveLength(1);
  expect(alarms).toEqual([expect.stringContaining('3 segments of WAL')]);
});
