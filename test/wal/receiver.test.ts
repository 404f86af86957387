import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path, { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Destination } from '../../src/destinations/destination.ts';
import type { BaseSource } from '../../src/plan/model.ts';
import type { Session } from '../../src/sources/postgres/server/session.ts';
import type { Tools } from '../../src/sources/postgres/server/tools.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { formatLsn, segmentName, startOf } from '../../src/store/wal/names.ts';
import { readWalLogs } from '../../src/store/wal/read-log.ts';
import { parseHistory } from '../../src/store/wal/timelines.ts';
import { WalWriter } from '../../src/store/wal/write-log.ts';
import { Receiver } from '../../src/wal/receiver.ts';
import type { ReceiverDeps } from '../../src/wal/receiver-deps.ts';
import { forgetReplacement, openReceiverMemory, rememberedIn } from '../../src/wal/receiver-state.ts';
import { scratchBase } from '../store/helpers.ts';
import { WalBench } from '../store/wal/bench.ts';
import { WalBytes } from '../store/wal/wal-bytes.ts';

/** A receiver whose server is a stand-in: a slot at its limit takes a server that keeps gigabytes of WAL. */

const SIZE = 1024 * 1024;
const SOURCE = 'db.postgres';
const source = {
  kind: 'base',
  server: SOURCE,
  name: `${SOURCE}.base`,
  rpoMs: 20,
  windowMs: 7 * 86_400_000,
} as BaseSource;
const name = (number: number) => segmentName({ timeline: 1, number }, SIZE);

let root: string;
let spool: string;
let bench: WalBench;
/** the position of the server, and what its slot has confirmed */
let flushed: bigint;
let received: bigint | undefined;
/** the content of the spool each time that `pg_receivewal` started */
let starts: string[][];
/** plays `pg_receivewal`, by the number of its start */
let receive: ((start: number) => Promise<void> | void) | undefined;
let alarms: string[];
let bases: number;
let makeBase: ((signal: AbortSignal) => Promise<boolean>) | undefined;
let tablespaces: string[];
let isDown: boolean;
/** how often it was not there when it was needed */
let refused: number;
/** called before the repository is opened */
let reach: (() => Promise<void>) | undefined;
let stallTimeoutMs: number;
/** called before the destination lists keys with a prefix */
let onList: (prefix: string) => void;
/** the destination takes no segments */
let isHung: boolean;
let onHung: () => void;
/** how far the clock of the server is behind, milliseconds */
let behindMs: number;
/** the timeline of the server, what its history file says, and the files of its WAL */
let timeline: number;
let history: string;
let files: string[];
let stop: AbortController;

beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-receiver-'));
  spool = join(root, 'spool', SOURCE);
  mkdirSync(spool, { recursive: true });
  bench = new WalBench();
  [starts, alarms, bases, received, receive, makeBase] = [[], [], 0, undefined, undefined, undefined];
  isHung = false;
  stallTimeoutMs = 60_000;
  tablespaces = [];
  isDown = false;
  refused = 0;
  reach = undefined;
  behindMs = 0;
  [timeline, history, files] = [1, '', []];
  onHung = () => undefined;
  onList = () => undefined;
  stop = new AbortController();
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const put = (file: string) => writeFileSync(join(spool, file), Buffer.alloc(SIZE, 'x'));
/** Puts a file with the header of a server. */
function putOf(system: string, file: string, to = SIZE): void {
  const content = Buffer.alloc(SIZE).fill('x', 0, to);
  content.writeUInt16LE(2, 2);
  content.writeBigUInt64LE(BigInt(system), 24);
  content.writeUInt32LE(SIZE, 32);
  writeFileSync(join(spool, file), content);
}

async function one(sql: string, values: unknown[] = []): Promise<object> {
  if (sql.includes('pg_ls_waldir')) return { found: `${files.includes(String(values[0]))}` };
  if (sql.includes('pg_control_system'))
    return {
      ...{ system: '7713464397883531290', segment: `${SIZE}`, level: 'replica', senders: '10', free: '10' },
      ...{ slots: '10', may: 'true', watch: 'true', role: 'postgres', recovery: 'false', tablespaces },
    };
  if (sql.includes('pg_create_physical_replication_slot')) received = flushed;
  const lsn = formatLsn(flushed);
  const at = received === undefined ? undefined : formatLsn(received);
  const slot = at === undefined ? { active: null } : { active: 'true', kept: at, received: at, reported: 'true' };
  return {
    at: new Date(Date.now() - behindMs).toISOString(),
    inserting: lsn,
    flushed: lsn,
    timeline: `0000000${timeline}`,
    directory: '/d',
    tablespaces: `${tablespaces.length}`,
    ...slot,
  };
}

async function all(sql: string): Promise<object[]> {
  if (!sql.includes('pg_drop_replication_slot')) return [];
  received = undefined;
  return [];
}

async function run(argv: readonly string[], signal: AbortSignal): Promise<string> {
  if (argv.includes('disk')) return 'head\n/dev/sda 10485760 1048576 9437184 10% /d';
  if (argv.includes('TIMELINE_HISTORY 2')) return `00000002.history|${history}`;
  if (!argv.includes('receive')) return '';
  starts.push(readdirSync(spool).sort());
  await receive?.(starts.length);
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

function hang(body: Readable, signal: AbortSignal | undefined): Promise<never> {
  body.destroy();
  onHung();
  return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
}

function makeReceiver(): Receiver {
  const session = { versionNumber: 170000, one, all, close: async () => undefined } as unknown as Session;
  const tools = {
    ...{ database: 'postgres', log: silentLog, run, close: async () => undefined, sharesMount: async () => true },
    connection: { user: 'postgres', host: '127.0.0.1', port: 5432, application: 'x' },
    ...{ session: async () => session, control: async () => session },
  } as unknown as Tools;
  const put: Destination['put'] = (key, body, options) =>
    isHung ? hang(body, options?.signal) : bench.destination.put(key, body, options);
  const list: Destination['list'] = (prefix, options) => {
    onList(prefix);
    return bench.destination.list(prefix, options);
  };
  const repository = {
    ...bench.repository,
    destination: { ...bench.destination, put, list },
    snapshots: async () => ({ snapshots: [], damaged: [] }),
  };
  const deps: ReceiverDeps = {
    ...{ project: 'shop', home: async () => 'here', memory: openReceiverMemory(root), spool: join(root, 'spool') },
    ...{ log: silentLog, now: () => new Date(), alarmOver: () => undefined, feed: () => undefined },
    stallTimeoutMs,
    alarm: (_topic, _source, { message }) => void alarms.push(message),
    async repository() {
      await reach?.();
      return repository as unknown as Repository;
    },
    async openTools() {
      if (isDown) refused++;
      if (isDown) throw new LifeboatError('PG_UNREACHABLE', 'the server does not answer');
      return tools;
    },
    async makeBase(_, __, signal) {
      bases++;
      return (await makeBase?.(signal)) ?? true;
    },
  };
  return new Receiver(deps, source);
}

const wal = async () => (await readWalLogs(bench.repository, SOURCE))[0]?.wal;

/** Stores segment 1 and a part of segment 2, as a receiver does that is stopped then. */
async function storeSome(): Promise<void> {
  flushed = startOf(2, SIZE) + 5000n;
  received = flushed;
  receive = () => {
    put(name(1));
    put(`${name(2)}.partial`);
  };
  await runUntil(async () => (await wal())?.partials[0]?.to === 5000);
  [starts, alarms, bases] = [[], [], 0];
  stop = new AbortController();
}

async function runUntil(done: () => Promise<boolean>): Promise<void> {
  const running = makeReceiver().run(stop.signal);
  try {
    await expect.poll(done, { timeout: 25_000 }).toBe(true);
  } finally {
    stop.abort();
    await running;
  }
}

test('a slot that was dropped at its limit is not taken back, and a base backup follows the gap', async () => {
  await storeSome();
  received = startOf(2, SIZE) + 6000n;
  flushed = startOf(2000, SIZE);
  receive = () => {
    put(name(2000));
    flushed = startOf(2001, SIZE);
    received = flushed;
  };
  await runUntil(async () => bases > 0);
  expect(starts).toEqual([[]]);
  expect(alarms[0]).toContain('so Lifeboat dropped the replication slot');
  const stored = await wal();
  // What the dropped slot had confirmed is stored first.
  expect(stored?.partials).toMatchObject([{ name: name(2), to: 6000 }]);
  expect(stored?.gaps).toMatchObject([{ why: expect.stringContaining('and the limit is 1.0 GiB') }]);
});

test('while the destination takes nothing, the slot is dropped at its limit', async () => {
  await storeSome();
  receive = () => {
    put(name(2));
    isHung = true;
  };
  onHung = () => {
    flushed = startOf(2000, SIZE);
  };
  await runUntil(async () => alarms.length > 0);
  expect(alarms[0]).toContain('so Lifeboat dropped the replication slot');
});

test('while the destination takes nothing, the spool does not grow beyond its limit', async () => {
  await storeSome();
  let ended = false;
  receive = () => {
    put(name(2));
    isHung = true;
    // It takes no block of the disk.
    writeFileSync(join(spool, 'many'), '');
    truncateSync(join(spool, 'many'), 6 * 1024 ** 3);
  };
  const state = () => openReceiverMemory(root).state(SOURCE);
  await runUntil(async () => {
    ended ||= (await state())?.error?.code === 'SPOOL_FULL';
    return ended;
  });
});

test('segments that wait are stored before they fill the spool, however long the interval is', async () => {
  await storeSome();
  source.rpoMs = 30 * 60_000;
  receive = async () => {
    rmSync(join(spool, `${name(2)}.partial`));
    put(name(2));
    await expect.poll(async () => (await wal())?.segments.length, { timeout: 10_000 }).toBe(2);
    for (let number = 3; number < 20; number++) put(name(number));
    flushed = startOf(20, SIZE);
    received = flushed;
  };
  try {
    await runUntil(async () => (await wal())?.segments.length === 19);
  } finally {
    source.rpoMs = 20;
  }
});

test('the reason of a gap that never came is not that of a later one', async () => {
  await storeSome();
  received = undefined;
  receive = async (start) => {
    if (start > 1) {
      put(name(9));
      flushed = startOf(10, SIZE);
      received = flushed;
      return;
    }
    rmSync(join(spool, `${name(2)}.partial`), { force: true });
    put(name(2));
    flushed = startOf(3, SIZE);
    received = flushed;
    await expect.poll(async () => (await wal())?.segments.length, { timeout: 10_000 }).toBe(2);
    flushed = startOf(9, SIZE);
    throw new LifeboatError('EXEC_FAILED', `requested WAL segment ${name(3)} has already been removed`);
  };
  await runUntil(async () => ((await wal())?.gaps.length ?? 0) > 0);
  expect((await wal())?.gaps[0]?.why).toMatch(/the server no longer has it$/);
});

test('what was received is stored before another start, also if the slot does not say how much it is', async () => {
  flushed = startOf(2, SIZE);
  receive = (start) => {
    if (start > 1) return;
    putOf('7713464397883531290', `${name(2)}.partial`, 7000);
    received = undefined;
    throw new LifeboatError('EXEC_FAILED', `requested WAL segment ${name(3)} has already been removed`);
  };
  await runUntil(async () => starts.length > 1);
  expect((await wal())?.partials).toMatchObject([{ name: name(2), to: 7000 }]);
});

test('a base backup goes on while the receiver connects again, and ends with the receiver', async () => {
  let making: AbortSignal | undefined;
  makeBase = (signal) =>
    new Promise((_, reject) => {
      making = signal;
      signal.addEventListener('abort', () => reject(signal.reason));
    });
  flushed = startOf(2, SIZE) + 5000n;
  const abortedAtStart: (boolean | undefined)[] = [];
  receive = async (start) => {
    abortedAtStart.push(making?.aborted);
    put(name(1));
    put(`${name(2)}.partial`);
    received = flushed;
    if (start > 1) return;
    await expect.poll(() => making, { timeout: 10_000 }).toBeDefined();
    throw new LifeboatError('EXEC_FAILED', 'the connection was closed');
  };
  await runUntil(async () => starts.length > 1);
  expect(bases).toBe(1);
  expect(abortedAtStart).toEqual([undefined, false]);
  expect(making?.aborted).toBe(true);
});

test('a file that the receiver had not filled when it died is removed, because it refuses such a file', async () => {
  flushed = startOf(2, SIZE) + 5000n;
  writeFileSync(join(spool, `${name(2)}.partial`), Buffer.alloc(SIZE / 2));
  await runUntil(async () => starts.length > 0);
  expect(starts).toEqual([[]]);
});

test('a server that went back to older data begins another history, and a base backup follows', async () => {
  await storeSome();
  // It is behind the stored WAL, and writes on there.
  flushed = startOf(1, SIZE) + 3000n;
  received = flushed;
  receive = () => {
    if (starts.length < 2) return;
    put(`${name(1)}.partial`);
    flushed = startOf(1, SIZE) + 9000n;
    received = flushed;
  };
  const logs = () => readWalLogs(bench.repository, SOURCE);
  await runUntil(async () => bases > 0 && (await logs())[1]?.wal.partials[0]?.to === 9000);
  const [before, after] = await logs();
  expect(before?.wal).toMatchObject({ segments: [{ name: name(1) }], partials: [{ name: name(2), to: 5000 }] });
  expect(after?.wal.gaps).toMatchObject([{ why: expect.stringContaining('the server is at') }]);
  expect(after?.wal.segments).toEqual([]);
  expect(alarms).toEqual([expect.stringContaining('the server is at')]);
  // Nothing that was received of the former history is left.
  expect(starts[1]).toEqual([]);
});

describe('another history begins once', () => {
  const logs = () => readWalLogs(bench.repository, SOURCE);
  let failures: number;
  beforeEach(async () => {
    await storeSome();
    flushed = startOf(1, SIZE) + 3000n;
    received = flushed;
    receive = undefined;
    failures = 0;
  });

  test('and people hear of it once, also if the destination takes nothing for a while', async () => {
    [isHung, stallTimeoutMs] = [true, 300];
    onHung = () => {
      isHung = ++failures < 2;
    };
    await runUntil(async () => starts.length > 1);
    expect(await logs()).toHaveLength(2);
    expect(alarms.filter((one) => one.includes('the server is at'))).toHaveLength(1);
  });

  test.each([
    ['', 'the server is at'],
    [', and the former page is damaged', 'page of the WAL log is damaged'],
  ])('and people hear of it, also if the destination fails right after its first page%s', async (what, why) => {
    if (what) for (const key of bench.objects.keys()) if (key.endsWith('.json')) bench.objects.set(key, 'damaged');
    const pages = () => [...bench.objects.values()].filter((content) => content.includes('"era":{')).length;
    onList = (prefix) => {
      if (!prefix.endsWith('/log/') || pages() === 0 || failures++ > 0) return;
      throw new LifeboatError('DEST_UNREACHABLE', 'the destination does not answer');
    };
    await runUntil(async () => starts.length > (what ? 0 : 1));
    expect([failures > 0, (await logs()).length]).toEqual([true, 2]);
    expect(alarms).toEqual([expect.stringContaining(why)]);
  });

  test('also if nothing but a history file is stored, which the server contradicts', async () => {
    rmSync(root, { recursive: true });
    mkdirSync(spool, { recursive: true });
    bench = new WalBench();
    [timeline, flushed, received] = [2, startOf(5, SIZE), undefined];
    const named = '00000002.history';
    const line = (at: string) => `1\t${at}\tno recovery target specified\n`;
    const writer = await bench.open();
    const stored = await writer.putHistory(named, parseHistory(line('0/180000')), Readable.from(['x']), stop.signal);
    await writer.append({ histories: [stored] });
    receive = () => writeFileSync(join(spool, named), line('0/190000'));
    await runUntil(async () => (await logs()).at(-1)?.wal.histories.get(2)?.[0]?.until === 0x190000n);
    expect([(await logs()).length, alarms.length]).toEqual([2, 1]);
  });
});

describe('WAL that was received before the server went back to older data, and that is not stored yet,', () => {
  const system = '7713464397883531290';
  const aside = () =>
    readdirSync(join(root, 'spool'), { recursive: true, encoding: 'utf8' }).filter(
      (one) => one.includes('.aside/') && /[0-9A-F]{24}/.test(one),
    );
  beforeEach(async () => {
    flushed = startOf(2, SIZE) + 5000n;
    received = flushed;
    receive = () => {
      putOf(system, name(1));
      putOf(system, `${name(2)}.partial`, 5000);
    };
    await runUntil(async () => (await wal())?.partials[0]?.to === 5000);
    [starts, alarms, bases, stop] = [[], [], 0, new AbortController()];
    receive = undefined;
    rmSync(join(spool, `${name(2)}.partial`));
    putOf(system, name(2), 9000);
    putOf(system, name(3));
    putOf(system, `${name(4)}.partial`, 700);
  });
  const logs = () => readWalLogs(bench.repository, SOURCE);

  test('is stored in the former history if the server is still behind it', async () => {
    flushed = startOf(1, SIZE) + 3000n;
    received = flushed;
    await runUntil(async () => (await logs()).length > 1);
    const [before, after] = await logs();
    expect(before?.wal.segments.map((one) => one.name)).toEqual([1, 2, 3].map(name));
    expect(before?.wal.partials).toMatchObject([{ name: name(4), to: 700 }]);
    expect(after?.wal.segments).toEqual([]);
    expect(aside()).toEqual([]);
  });

  test('is set aside if the server may have written it', async () => {
    writeFileSync(join(spool, name(2)), Buffer.alloc(SIZE, 'y'));
    flushed = startOf(5, SIZE);
    received = flushed;
    await runUntil(async () => (await logs()).length > 1);
    const [before, after] = await logs();
    expect(before?.wal.segments.map((one) => one.name)).toEqual([name(1)]);
    expect(after?.wal.segments).toEqual([]);
    expect(
      aside()
        .map((one) => path.basename(one))
        .sort(),
    ).toEqual([name(2), name(3), `${name(4)}.partial`]);
    expect(alarms[0]).toContain('Lifeboat sets it aside');
  });
});

test('after the clock of a server went back, what was received is stored in the former history', async () => {
  const system = '7713464397883531290';
  flushed = startOf(2, SIZE) + 5000n;
  receive = async (start) => {
    if (start > 1) return;
    putOf(system, name(1));
    putOf(system, `${name(2)}.partial`, 5000);
    received = flushed;
    await expect.poll(async () => (await wal())?.partials[0]?.to, { timeout: 10_000 }).toBe(5000);
    rmSync(join(spool, `${name(2)}.partial`));
    putOf(system, name(2));
    putOf(system, `${name(3)}.partial`, 700);
    flushed = startOf(3, SIZE) + 700n;
    received = flushed;
    behindMs = 60_000;
  };
  const logs = () => readWalLogs(bench.repository, SOURCE);
  await runUntil(async () => (await logs())[1]?.wal.partials[0]?.to === 700);
  const [before, after] = await logs();
  expect(before?.wal.segments.map((one) => one.name)).toEqual([name(1), name(2)]);
  expect(before?.wal.partials).toMatchObject([{ name: name(3), to: 700 }]);
  expect(after?.wal.gaps).toMatchObject([{ why: expect.stringContaining('the clock of the server went back') }]);
  // The receiver goes on where it was: the bytes are those of one history.
  expect(starts[1]).toEqual([`${name(3)}.partial`]);
  expect(alarms).toEqual([expect.stringContaining('the clock of the server went back')]);
});

test('once there is a tablespace, nothing more is stored, and another history begins after it', async () => {
  await storeSome();
  receive = async () => {
    if (starts.length > 1) return;
    tablespaces = ['fast'];
    put(name(2));
    flushed = startOf(4, SIZE);
    received = flushed;
  };
  const state = () => openReceiverMemory(root).state(SOURCE);
  let refused = false;
  await runUntil(async () => {
    refused ||= (await state())?.error?.message.includes('has tablespaces (fast)') ?? false;
    if (refused) tablespaces = [];
    return (await readWalLogs(bench.repository, SOURCE)).length > 1;
  });
  const [before, after] = await readWalLogs(bench.repository, SOURCE);
  expect(before?.wal.segments.map((one) => one.name)).toEqual([name(1)]);
  expect(after?.wal.gaps).toMatchObject([{ why: expect.stringContaining('tablespaces') }]);
});

describe('after a recovery in place, the server writes on a new timeline', () => {
  const fork = `${segmentName({ timeline: 2, number: 2 }, SIZE)}.partial`;
  beforeEach(async () => {
    await storeSome();
    [timeline, history] = [2, `1\t${formatLsn(startOf(2, SIZE) + 4000n)}\tno recovery target specified\n\n`];
    files = [fork.slice(0, 24)];
    flushed = startOf(5, SIZE) + 100n;
    received = flushed;
    receive = undefined;
  });

  test('which is received from its fork on', async () => {
    await runUntil(async () => starts.length > 0);
    expect(starts).toEqual([[fork]]);
    expect(readFileSync(join(spool, fork)).equals(Buffer.alloc(SIZE))).toBe(true);
  });

  test('of which the beginning of the segment is stored once it is received, and no zeros before', async () => {
    receive = async () => {
      writeFileSync(join(spool, '00000002.history'), history);
      await sleep(200);
      expect((await wal())?.partials.map((one) => one.name)).toEqual([name(2)]);
      writeFileSync(join(spool, fork), Buffer.alloc(SIZE).fill('x', 0, 7000));
      received = startOf(2, SIZE) + 7000n;
    };
    await runUntil(async () => (await wal())?.partials.some((one) => one.to === 7000) ?? false);
    const stored = await wal();
    expect(stored?.partials.map((one) => one.name)).toEqual([name(2), fork.slice(0, 24)]);
    expect(stored?.gaps).toEqual([]);
  });

  test('of which nothing is received while the former one cannot be stored, and a hang is noticed', async () => {
    rmSync(join(spool, `${name(2)}.partial`));
    put(name(2));
    isHung = true;
    stallTimeoutMs = 300;
    const state = () => openReceiverMemory(root).state(SOURCE);
    let noticed = false;
    await runUntil(async () => {
      noticed ||= (await state())?.error?.message.startsWith('storing WAL made no progress') ?? false;
      return noticed;
    });
    expect(starts).toEqual([]);
  });

  test('which is received from the slot on if the server no longer has the fork', async () => {
    files = [];
    await runUntil(async () => starts.length > 0);
    expect(starts).toEqual([[]]);
  });

  test('which is received from the slot on once the server has refused the fork', async () => {
    receive = (start) => {
      if (start === 1) throw new LifeboatError('EXEC_FAILED', `requested WAL segment ${fork} has already been removed`);
    };
    await runUntil(async () => starts.length > 1);
    expect(starts).toEqual([[fork], []]);
  });
});

describe('a tablespace that was created and dropped between two looks', () => {
  let wrote: WalBytes;
  let created: bigint;
  beforeEach(() => {
    wrote = new WalBytes(1);
    wrote.fillTo(startOf(3, SIZE) + 9000n);
    ({ at: created } = wrote.add({ manager: 5, data: Buffer.from('\0\0\0\0/fast\0') }));
    wrote.add({ manager: 5, info: 0x10 });
    wrote.fillTo(startOf(5, SIZE) + 4000n);
    flushed = startOf(5, SIZE);
  });
  const logs = () => readWalLogs(bench.repository, SOURCE);
  const content = (number: number) => writeFileSync(join(spool, name(number)), wrote.segment(number));

  test('ends the history before it, and nothing before it is lost', async () => {
    receive = (start) => {
      if (start > 1) return;
      for (const number of [1, 2, 3, 4]) content(number);
      received = flushed;
    };
    await runUntil(async () => (await logs())[1]?.wal.segments.length === 2);
    const [before, after] = await logs();
    expect(before?.wal.segments.map((one) => one.name)).toEqual([1, 2].map(name));
    expect(before?.wal.partials).toMatchObject([{ name: name(3), to: Number(created - startOf(3, SIZE)) }]);
    expect(after?.wal.segments.map((one) => one.name)).toEqual([3, 4].map(name));
    expect(alarms).toEqual([expect.stringContaining('a tablespace was created')]);
  });

  test('is no end of a history that begins after it', async () => {
    receive = (start) => {
      for (const number of start === 1 ? [1, 2, 3, 4] : []) content(number);
      received = flushed;
    };
    await runUntil(async () => (await logs()).length > 1);
    [stop, receive] = [new AbortController(), undefined];
    await runUntil(async () => (await logs())[1]?.wal.segments.length === 2);
    expect(await logs()).toHaveLength(2);
  });

  test.each([
    ['a later', 1, 2],
    ['an earlier', 2, 1],
  ])('ends one history only, also if the server is on %s timeline by then', async (_, before, now) => {
    timeline = before;
    const former = (number: number) => segmentName({ timeline: before, number }, SIZE);
    receive = () => {
      for (const number of [1, 2, 3, 4]) writeFileSync(join(spool, former(number)), wrote.segment(number));
      received = flushed;
    };
    const state = () => openReceiverMemory(root).state(SOURCE);
    await runUntil(async () => (await state())?.diverged !== undefined);
    [stop, receive, starts] = [new AbortController(), undefined, []];
    [timeline, history] = [now, `1\t${formatLsn(startOf(5, SIZE))}\tno recovery target specified\n\n`];
    flushed = startOf(6, SIZE);
    await runUntil(async () => starts.length > 0);
    const all = await logs();
    expect(all).toHaveLength(2);
    expect(all[1]?.wal.segments.map((one) => one.name)).toEqual([3, 4].map(former));
    expect([starts[0], alarms]).toEqual([[], [expect.stringContaining('a tablespace was created')]]);
  });
});

test('why another history begins is remembered, also after another start of Lifeboat', async () => {
  await storeSome();
  tablespaces = ['fast'];
  const state = () => openReceiverMemory(root).state(SOURCE);
  await runUntil(async () => (await state())?.diverged !== undefined);
  [tablespaces, stop] = [[], new AbortController()];
  await runUntil(async () => (await readWalLogs(bench.repository, SOURCE)).length > 1);
  expect((await state())?.diverged).toBeUndefined();
});

describe('a recovery in place of a server with two histories', () => {
  const system = '7713464397883531290';
  const memory = () => openReceiverMemory(root);
  const logs = () => readWalLogs(bench.repository, SOURCE);
  beforeEach(async () => {
    await storeSome();
    bench.at = new Date().toISOString();
    await (await bench.open()).beginAnew({
      at: bench.at,
      timeline: 1,
      to: formatLsn(startOf(2, SIZE)),
      why: 'older data',
    });
    await bench.storeAs('other', 2, 3);
    rmSync(join(spool, `${name(2)}.partial`));
    // Received from the data that was in use until then.
    putOf(system, name(4));
    [timeline, history] = [2, `1\t${formatLsn(startOf(2, SIZE) + 4000n)}\tno recovery target specified\n\n`];
    flushed = startOf(2, SIZE) + 8000n;
    received = undefined;
    receive = undefined;
  });
  const second = [2, 3, 4].map(name);
  const namesIn = (log: Awaited<ReturnType<typeof logs>>[number] | undefined) =>
    log?.wal.segments.map((one) => one.name);

  test('to the first one begins another history, and what was received before is stored in the second one', async () => {
    await memory().saveReplacement(SOURCE, { systemId: system, timeline: 2, era: 1 });
    await runUntil(async () => starts.length > 0);
    const [, before, after] = await logs();
    expect([namesIn(before), namesIn(after)]).toEqual([second, []]);
    expect(after?.wal.gaps).toMatchObject([
      { why: expect.stringContaining('data of an earlier history'), timeline: 2 },
    ]);
    expect([starts, alarms]).toEqual([[[]], []]);
    expect(await memory().replacement(SOURCE)).toBeUndefined();
    expect((await memory().state(SOURCE))?.timeline).toBe(2);
  });

  test('from WAL of another repository begins another history', async () => {
    await memory().saveReplacement(SOURCE, { systemId: system, timeline: 2 });
    await runUntil(async () => starts.length > 0);
    expect(await logs()).toHaveLength(3);
  });

  test.each([
    ['to the second one', { systemId: system, timeline: 2, era: 2 }],
    ['that did not take place', { systemId: system, timeline: 3, era: 1 }],
    ['of another server', { systemId: '42', timeline: 2, era: 1 }],
  ])('%s begins none', async (_, replacement) => {
    await memory().saveReplacement(SOURCE, replacement);
    await runUntil(async () => starts.length > 0);
    const all = await logs();
    expect([all.length, namesIn(all[1])]).toEqual([2, second]);
    expect(await memory().replacement(SOURCE)).toBeUndefined();
  });
});

test('work that was left alone does not erase what a recovery has recorded since then', async () => {
  flushed = startOf(2, SIZE);
  const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  reach = async () => {
    ask();
    await gate;
  };
  const running = makeReceiver().run(stop.signal);
  await asked;
  stop.abort();
  await running;
  const memory = openReceiverMemory(root);
  const replacement = { systemId: '7713464397883531290', timeline: 2, era: 1 };
  await memory.saveReplacement(SOURCE, replacement);
  open();
  await sleep(500);
  expect(await memory.replacement(SOURCE)).toEqual(replacement);
});

test('a replacement that another recovery has recorded meanwhile stays', async () => {
  const memory = openReceiverMemory(root);
  const [first, second] = [1, 2].map((era) => ({ systemId: '42', timeline: 2, era }));
  await memory.saveReplacement(SOURCE, second);
  await forgetReplacement(memory, SOURCE, first);
  expect(await memory.replacement(SOURCE)).toEqual(second);
  await forgetReplacement(memory, SOURCE, second);
  expect(await memory.replacement(SOURCE)).toBeUndefined();
});

test('until the receiver has reached the recovered server, the agent remembers its timeline', async () => {
  await storeSome();
  const remembered = rememberedIn(root);
  expect((await remembered(SOURCE))?.timeline).toBe(1);
  await openReceiverMemory(root).saveReplacement(SOURCE, { systemId: '7713464397883531290', timeline: 2, era: 1 });
  expect(await remembered(SOURCE)).toMatchObject({ timeline: 2, logged: { page: 1 } });
  expect(await remembered('other.postgres')).toBeUndefined();
  await openReceiverMemory(root).saveReplacement(SOURCE, { systemId: '42', timeline: 3 });
  const replacement = { systemId: '42', timeline: 3 };
  expect(await remembered(SOURCE)).toMatchObject({ timeline: 1, logged: { page: 1 }, replacement });
  await openReceiverMemory(root).saveReplacement('other.postgres', replacement);
  expect(await remembered('other.postgres')).toMatchObject(replacement);
});

test('what waits in the spool is stored while the server does not answer', async () => {
  isDown = true;
  putOf('7713464397883531290', name(1));
  putOf('7713464397883531290', `${name(2)}.partial`, 9000);
  await runUntil(async () => (await wal())?.partials[0]?.to === 9000);
  expect((await wal())?.segments.map((one) => one.name)).toEqual([name(1)]);
});

test('what was received last is stored when the receiver ends', async () => {
  flushed = startOf(2, SIZE) + 5000n;
  source.rpoMs = 30 * 60_000;
  receive = async () => {
    // Nothing is due for as long as the interval lasts.
    await sleep(500);
    putOf('7713464397883531290', name(1));
    putOf('7713464397883531290', `${name(2)}.partial`, 5000);
    starts.push([]);
  };
  try {
    await runUntil(async () => starts.length > 1);
  } finally {
    source.rpoMs = 20;
  }
  expect((await wal())?.segments.map((one) => one.name)).toEqual([name(1)]);
  expect((await wal())?.partials).toMatchObject([{ name: name(2), to: 5000 }]);
});

test('what waits in the spool of a former server is stored before the WAL of another one is received', async () => {
  putOf('42', name(7));
  flushed = startOf(2, SIZE);
  await runUntil(async () => starts.length > 0);
  expect(starts).toEqual([[]]);
  const [log] = await readWalLogs(bench.repository, SOURCE);
  expect([log?.place.systemId, log?.wal.segments.map((one) => one.name)]).toEqual(['42', [name(7)]]);
});

test('WAL of a former server that contradicts what is stored of it is set aside, and is no trouble of this one', async () => {
  writeFileSync(join(spool, '00000002.history'), '1\t0/180000\tno recovery target specified\n');
  putOf('42', segmentName({ timeline: 2, number: 1 }, SIZE));
  flushed = startOf(2, SIZE);
  await runUntil(async () => starts.length > 0);
  writeFileSync(join(spool, '00000002.history'), '1\t0/190000\tno recovery target specified\n');
  putOf('42', segmentName({ timeline: 2, number: 2 }, SIZE));
  [starts, alarms, stop] = [[], [], new AbortController()];
  await runUntil(async () => starts.length > 0);
  expect(starts).toEqual([[]]);
  expect(alarms).toEqual([expect.stringContaining('Lifeboat sets it aside')]);
  const [event = ''] = readdirSync(`${spool}.aside`);
  expect(readdirSync(join(`${spool}.aside`, event))).toEqual([segmentName({ timeline: 2, number: 2 }, SIZE)]);
});

test('a history file of an earlier connection is fetched again: another server may have that timeline', async () => {
  writeFileSync(join(spool, '00000002.history'), '1\t0/180000\tno recovery target specified\n');
  flushed = startOf(2, SIZE);
  await runUntil(async () => starts.length > 0);
  expect(starts).toEqual([[]]);
});

test('a lost memory of the receiver loses no WAL of the same server', async () => {
  putOf('7713464397883531290', name(1));
  flushed = startOf(2, SIZE);
  await runUntil(async () => starts.length > 0);
  expect(starts).toEqual([[name(1)]]);
});

test('once another agent writes the log, this one only looks after its slot, and people hear of it at once', async () => {
  await storeSome();
  receive = async () => {
    const there = await WalWriter.open(bench.repository, {
      ...{ place: { project: 'shop', source: SOURCE, systemId: '7713464397883531290' }, segmentSize: SIZE },
      ...{ home: 'there', now: () => new Date() },
    });
    await there.append({});
    flushed += 1000n;
    received = flushed;
    await expect.poll(() => alarms, { timeout: 10_000 }).toHaveLength(1);
    flushed = startOf(2000, SIZE);
  };
  await runUntil(async () => {
    isDown = alarms.length > 1;
    return refused > 0;
  });
  expect(alarms).toEqual([
    expect.stringContaining('another Lifeboat receives the WAL'),
    expect.stringContaining('so Lifeboat dropped the replication slot'),
  ]);
  expect(starts).toHaveLength(1);
  // It failed again, for other reasons, which are not why it stores nothing.
  expect((await openReceiverMemory(root).state(SOURCE))?.error?.code).toBe('LOCKED');
  expect((await wal())?.partials).toMatchObject([{ to: 5000 }]);
});
