import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { BaseSource, Plan, PostgresSource } from '../../src/plan/model.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { readWalLogs } from '../../src/store/wal/read-log.ts';
import { LeftWal } from '../../src/wal/left-wal.ts';
import { openReceiverMemory } from '../../src/wal/receiver-state.ts';
import { leftAsideProblems } from '../../src/wal/spool/aside.ts';
import { warnOfUnstored } from '../../src/wal/unstored.ts';
import { scratchBase } from '../store/helpers.ts';
import { nameOf, SIZE, SYSTEM, WalBench } from '../store/wal/bench.ts';

const SOURCE = 'db.postgres';
let root: string;
let spool: string;
let bench: WalBench;
let left: LeftWal;
beforeEach(async () => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-left-wal-'));
  spool = join(root, 'spool', SOURCE);
  mkdirSync(spool, { recursive: true });
  bench = new WalBench();
  await bench.store(1, 1);
  for (const number of [2, 3]) {
    const content = Buffer.alloc(SIZE, 'x');
    content.writeUInt16LE(2, 2);
    content.writeBigUInt64LE(BigInt(SYSTEM), 24);
    content.writeUInt32LE(SIZE, 32);
    writeFileSync(join(spool, nameOf(number)), content);
  }
  left = open();
});

function open(more: Partial<ConstructorParameters<typeof LeftWal>[0]> = {}): LeftWal {
  return new LeftWal({
    ...{ project: 'shop', home: async () => 'here', log: silentLog, now: () => new Date(bench.at) },
    ...{ repository: async () => bench.repository as Repository, feed: () => undefined, alarm: () => undefined },
    ...{ memory: openReceiverMemory(root), spool: join(root, 'spool'), stallTimeoutMs: 60_000, ...more },
  });
}

/** Uses an object that records what it notes. */
function noted(): string[] {
  const infos: string[] = [];
  left = open({ log: { ...silentLog, info: (message: string) => void infos.push(message) } });
  return infos;
}

/** Uses an object that records its warnings. */
function recording(): { warnings: string[] } {
  const warnings: string[] = [];
  left = open({ log: { ...silentLog, warn: (message: string) => void warnings.push(message) } });
  return { warnings };
}
afterEach(async () => {
  await left.stop();
  rmSync(root, { recursive: true });
});

const planOf = (more: Partial<Plan> = {}): Plan => ({ project: 'shop', sources: [], problems: [], ...more });
const stored = async () =>
  (await readWalLogs(bench.repository, SOURCE))[0]?.wal.segments.map(({ name }) => name).join(' ');
const ALL = [1, 2, 3].map((number) => nameOf(number)).join(' ');

test('the WAL of a container that stopped is stored, and the receiver can go on there', async () => {
  const stopped = { [SOURCE]: { containerName: 'db' } } as unknown as NonNullable<Plan['stopped']>;
  left.look({ plan: planOf({ stopped }), received: new Set() });
  await expect.poll(stored).toBe(ALL);
  await expect.poll(() => readdirSync(spool)).toEqual([nameOf(3)]);
});

test('the WAL of a source that nobody asks for is stored, then its directory is removed', async () => {
  const infos = noted();
  left.look({ plan: planOf(), received: new Set() });
  await expect.poll(() => infos).toEqual([expect.stringMatching(/: everything is stored$/)]);
  expect(existsSync(spool)).toBe(false);
  expect(await stored()).toBe(ALL);
});

test('WAL that is set aside of a source that nobody asks for is shown, and removed after 30 days', async () => {
  const file = join(spool, nameOf(3));
  const content = readFileSync(file);
  content.writeBigUInt64LE(42n, 24);
  writeFileSync(file, content);
  const infos = noted();
  left.look({ plan: planOf(), received: new Set() });
  await expect.poll(() => infos).toEqual([expect.stringMatching(/: what is not stored is set aside$/)]);
  expect(existsSync(spool)).toBe(false);
  const problems = () => leftAsideProblems(join(root, 'spool'), []);
  expect(await problems()).toMatchObject([{ subject: SOURCE, hint: expect.stringContaining(`${spool}.aside`) }]);
  expect(await leftAsideProblems(join(root, 'spool'), [SOURCE])).toEqual([]);
  bench.at = new Date(Date.parse(bench.at) + 31 * 86_400_000).toISOString();
  left.look({ plan: planOf(), received: new Set() });
  await expect.poll(() => readdirSync(join(root, 'spool'))).toEqual([]);
  expect(await problems()).toEqual([]);
});

test('WAL that is set aside of a source whose slot is still there stays, because its container may be on its way back', async () => {
  const directory = join(root, 'spool', `${SOURCE}.aside`, '2020-01-01T03-00-00.000Z');
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, nameOf(3)), 'x');
  const memory = openReceiverMemory(root);
  const slot = { slot: 'lifeboat_x', source: SOURCE, server: {} as PostgresSource, at: bench.at };
  await memory.updateSlots(() => [slot]);
  const limited = vi.spyOn(memory, 'slots');
  left = open({ memory });
  left.look({ plan: planOf(), received: new Set() });
  // The second look at the slots decides about it.
  await expect.poll(() => limited.mock.calls.length).toBeGreaterThan(1);
  await left.stop();
  expect(existsSync(directory)).toBe(true);
});

/** Sets 3 GiB of WAL of a source aside on each of three days. They take no block of the disk. */
function setMuchAside(source: string): () => string[] {
  const aside = join(root, 'spool', `${source}.aside`);
  for (const day of [18, 19, 20]) {
    const directory = join(aside, `2026-11-${day}T03-00-00.000Z`);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, nameOf(3)), '');
    truncateSync(join(directory, nameOf(3)), 3 * 1024 ** 3);
  }
  return () => (existsSync(aside) ? readdirSync(aside) : []);
}

test.each(['stopped', 'gone', 'received'])(
  'WAL that is set aside of a source that is %s stays below its limit',
  async (state) => {
    const stopped = state === 'stopped' ? { [SOURCE]: { container: 'db', start: 'docker compose start db' } } : {};
    const received = new Set(state === 'received' ? [SOURCE] : []);
    const alarms: string[] = [];
    left = open({ alarm: (_topic, source, { message }) => void alarms.push(`${source}: ${message}`) });
    const aside = setMuchAside(SOURCE);
    left.look({ plan: planOf({ stopped }), received });
    await expect.poll(aside).toEqual(['2026-11-20T03-00-00.000Z']);
    expect(alarms).toHaveLength(2);
    expect(alarms[0]).toContain(
      `${SOURCE}: 3.0 GiB of WAL that were set aside at 2026-11-18T03:00:00.000Z are deleted`,
    );
  },
);

test('on a nearly full disk, no WAL is kept aside of a source without a receiver', async () => {
  rmSync(spool, { recursive: true });
  const aside = setMuchAside('gone.postgres');
  vi.spyOn(fs, 'statfs').mockResolvedValue({ bsize: 4096, blocks: 26_214_400, bavail: 1000 } as never);
  // The imports of other modules follow.
  syncBuiltinESMExports();
  onTestFinished(() => {
    vi.restoreAllMocks();
    syncBuiltinESMExports();
  });
  left.look({ plan: planOf(), received: new Set() });
  await expect.poll(aside).toEqual([]);
});

test('people hear of WAL that waits, and of none that is stored', async () => {
  const warnings: string[] = [];
  const log = { ...silentLog, warn: (message: string) => void warnings.push(message) };
  const where = { repository: bench.repository, spool: join(root, 'spool'), source: SOURCE, log };
  await warnOfUnstored(where, new AbortController().signal);
  expect(warnings).toEqual([expect.stringContaining('2 segments of WAL wait in the spool')]);
  left.look({ plan: planOf({ unreadLabels: true }), received: new Set() });
  await expect.poll(stored).toBe(ALL);
  await warnOfUnstored(where, new AbortController().signal);
  expect(warnings).toHaveLength(1);
});

test('people hear once that WAL waits whose log cannot be used, and it is stored once the log can be used', async () => {
  const { warnings } = recording();
  const [key = '', content = ''] = [...bench.objects].find(([one]) => one.endsWith('.json')) ?? [];
  bench.objects.set(key, 'damaged');
  const sources = [{ kind: 'base', server: SOURCE } as BaseSource];
  left.look({ plan: planOf({ sources }), received: new Set() });
  await expect.poll(() => warnings).toEqual([expect.stringContaining('it could not be stored')]);
  left.look({ plan: planOf({ sources }), received: new Set() });
  bench.objects.set(key, content);
  await expect
    .poll(() => {
      left.look({ plan: planOf({ sources }), received: new Set() });
      return stored();
    })
    .toBe(ALL);
  expect(warnings).toHaveLength(1);
});

test('a destination that hangs keeps neither a receiver nor the end waiting', async () => {
  const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
  left = open({
    repository() {
      ask();
      return new Promise(() => undefined);
    },
  });
  left.look({ plan: planOf({ unreadLabels: true }), received: new Set() });
  await asked;
  const begun = performance.now();
  await left.release(SOURCE);
  await left.stop();
  expect(performance.now() - begun).toBeLessThan(10_000);
}, 20_000);

test('while another agent receives the WAL of the server, nothing is stored, so that the other one goes on', async () => {
  const warnings: string[] = [];
  const log = { ...silentLog, warn: (_: string, more: object = {}) => void warnings.push(JSON.stringify(more)) };
  left = open({ log, home: async () => 'a former host' });
  left.look({ plan: planOf(), received: new Set() });
  await expect.poll(() => warnings).toEqual([expect.stringContaining('another Lifeboat receives the WAL')]);
  expect([await stored(), existsSync(spool)]).toEqual([nameOf(1), true]);
  bench.at = '2026-11-20T05:00:00.000Z';
  left.look({ plan: planOf(), received: new Set() });
  await expect.poll(() => existsSync(spool)).toBe(false);
  expect(await stored()).toBe(ALL);
});

test('as long as its slot is there, the directory stays', async () => {
  const record = { slot: 'lifeboat_0', source: SOURCE, server: {} as never, at: bench.at };
  await openReceiverMemory(root).updateSlots(() => [record]);
  left.look({ plan: planOf(), received: new Set() });
  await expect.poll(stored).toBe(ALL);
  expect(existsSync(spool)).toBe(true);
});

test('the WAL of a source with a receiver is left to that one', async () => {
  const sources = [{ kind: 'base', server: SOURCE } as BaseSource];
  left.look({ plan: planOf({ sources }), received: new Set([SOURCE]) });
  left.look({ plan: planOf({ sources }), received: new Set([SOURCE]) });
  await left.release(SOURCE);
  await left.stop();
  expect(await stored()).toBe(nameOf(1));
});
