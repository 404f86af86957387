import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { backup } from '../../src/backup.ts';
import type { BackupDeps } from '../../src/backup-context.ts';
import type { Captured } from '../../src/capture.ts';
import type { Destination } from '../../src/destinations/destination.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';
import { type ErrorCode, LifeboatError } from '../../src/errors.ts';
import { silentLog } from '../../src/log.ts';
import type { Plan } from '../../src/plan/model.ts';
import { createDispatcher } from '../../src/report/dispatch.ts';
import { openState } from '../../src/state.ts';
import { chainBreaks } from '../../src/store/chain.ts';
import { LEASE_MS, takeLease } from '../../src/store/lease.ts';
import { openRepository } from '../../src/store/repository.ts';
import { keys } from '../contract/destination.ts';
import { makeResult } from '../report/fixtures.ts';
import { scratchBase } from '../store/helpers.ts';

/** Runs of several agents on one repository, and with a signing key or without. */

let root: string;
let now: Date;
let done: string[];
beforeEach(async () => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-leased-'));
  now = new Date('2026-11-20T03:00:00Z');
  done = [];
  await open();
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const destination = () => createLocalDestination({ root });
const open = (signingKeys: string[] = []) =>
  openRepository(destination(), { project: 'shop', create: true, keys: {}, signingKeys });
const leaseOf = (home: string) =>
  takeLease({ destination: destination(), project: 'shop', home, holder: home, now: () => now, log: silentLog });
const ids = async () => (await (await open()).snapshots()).snapshots.map(({ manifest }) => manifest.id);

interface Over extends Partial<BackupDeps> {
  keys?: string[];
  during?: () => Promise<void>;
  /** puts an object, and announces its key */
  stores?: (record: (key: string) => void) => Promise<void>;
}

function run(agent: string, over: Over = {}) {
  const { keys: signingKeys, during, stores, ...rest } = over;
  const directory = join(root, `.${agent}`);
  const deps: BackupDeps = {
    ...{ project: 'shop', agentVersion: '0', destination: '/backups', agentId: '', zone: 'UTC', log: silentLog },
    lock: async () => ({ release: async () => void done.push('unlocked') }),
    journals: join(directory, 'journals'),
    spool: join(directory, 'runs'),
    state: openState(join(directory, 'state')),
    dispatcher: createDispatcher([{ name: 'test', handle: async ({ type }) => void done.push(type) }], {
      log: silentLog,
    }),
    now: () => now,
    recover: async () => undefined,
    sweepTemporary: async () => undefined,
    plan: async () =>
      ({
        project: 'shop',
        problems: [],
        sources: [{ name: 'config', kind: 'files', schedule: '0 3 * * *', root: '/config' }],
      }) as unknown as Plan,
    repository: () => open(signingKeys),
    lease: () => leaseOf(agent),
    holdDeps: () => expect.fail('nothing is held'),
    capturer: ({ journal }) => ({
      async capture() {
        await during?.();
        await stores?.((key) => journal.record({ type: 'object', key }));
        const report: Captured['report'] = makeResult({ name: 'config', kind: 'files', bytes: 1, newBytes: 1 });
        const { fell: _, ...entry } = report;
        return { report, entry: { ...entry, packs: [], skipped: {} } };
      },
      failed: () => expect.fail('not asked for'),
    }),
    nextRun: () => undefined,
    copy: async () => [],
    prune: async () => ({ snapshots: 0, objects: 0, bytes: 0 }),
    ...rest,
  };
  return backup(deps, {
    trigger: 'schedule',
    begun: () => void done.push('begun'),
    signal: new AbortController().signal,
  });
}

test('while another agent has the lease nothing is begun, and the daemon may try again', async () => {
  const other = await leaseOf('b');
  await expect(run('a')).rejects.toMatchObject({ code: 'LOCKED' });
  expect(done).toEqual(['unlocked']);
  await other.release();
  const report = await run('a');
  expect(report.error).toBeUndefined();
  expect(report.snapshot).toBe(report.id);
  await leaseOf('b');
});

test('one that was held up while another agent took over commits nothing', async () => {
  const held = await run('a', {
    async during() {
      now = new Date(now.getTime() + LEASE_MS);
      const other = await run('b');
      expect(other.snapshot).toBe(other.id);
    },
  });
  expect(held.error).toMatchObject({ code: 'LEASE_LOST' });
  expect(held.snapshot).toBeUndefined();
  expect(await ids()).toHaveLength(1);
});

/** A destination whose manifests wait; `arrived` resolves to what lets the first of them go on. */
function withManifestsHeld() {
  const arrived = Promise.withResolvers<() => void>();
  const of = destination();
  const held: Destination = {
    ...of,
    async put(key, body, options) {
      if (key.endsWith('/manifest.json')) await new Promise<void>((go) => arrived.resolve(go));
      return of.put(key, body, options);
    },
  };
  const repository = () => openRepository(held, { project: 'shop', create: true, keys: {} });
  return { repository, arrived: arrived.promise };
}

test('a manifest that comes when another agent has taken over and committed is an older link of the same chain', async () => {
  const first = await run('a');
  const { repository, arrived } = withManifestsHeld();
  now = new Date(now.getTime() + 60_000);
  const late = run('a', { repository });
  const land = await arrived;
  now = new Date(now.getTime() + LEASE_MS + 60_000);
  const other = await run('b');
  land();
  const report = await late;
  expect([report.error, other.error]).toEqual([undefined, undefined]);
  const { snapshots } = await (await open()).snapshots();
  expect(Object.fromEntries(snapshots.map(({ manifest }) => [manifest.id, manifest.sequence]))).toEqual({
    [first.id]: 1,
    [report.id]: 2,
    [other.id]: 3,
  });
  expect(chainBreaks(snapshots, [])).toEqual([]);
});

test('what a run stored stays while its manifest may still come, and goes when it cannot', async () => {
  const facts = async () => (await open()).putFacts('20261120T030000Z-aaaaaa', 'config', {});
  const stored = async () => (await keys(destination(), 'shop/snapshots/')).length;
  const failing = (code: ErrorCode) => {
    const of = destination();
    const put: Destination['put'] = async (key, body, options) => {
      if (!key.endsWith('/manifest.json')) return of.put(key, body, options);
      throw new LifeboatError(code, 'no');
    };
    const repository = () => openRepository({ ...of, put }, { project: 'shop', create: true, keys: {} });
    return run('a', { repository, stores: async (record) => record((await facts()).key) });
  };
  expect((await failing('DEST_FULL')).error?.code).toBe('DEST_FULL');
  expect(await stored()).toBe(0);
  expect((await failing('DEST_UNREACHABLE')).error?.code).toBe('DEST_UNREACHABLE');
  expect(await stored()).toBe(1);
});

test('a manifest whose answer was lost counts', async () => {
  const of = destination();
  const put: Destination['put'] = async (key, body, options) => {
    const done = await of.put(key, body, options);
    if (key.endsWith('/manifest.json')) throw new LifeboatError('DEST_UNREACHABLE', 'no answer');
    return done;
  };
  const repository = () => openRepository({ ...of, put }, { project: 'shop', create: true, keys: {} });
  const report = await run('a', { repository });
  expect([report.error, report.snapshot]).toEqual([undefined, report.id]);
});

test('a destination that fails before the lease is had is reported as the failure of the run', async () => {
  const lease = async () => {
    throw new LifeboatError('DEST_FULL', 'no space');
  };
  expect((await run('a', { lease })).error).toMatchObject({ code: 'DEST_FULL' });
  expect(done).toEqual(['begun', 'run-started', 'run-finished', 'unlocked']);
});

test('once snapshots are signed, none is made without the key', async () => {
  const key = 'a key of many characters';
  const plain = await run('a');
  now = new Date(now.getTime() + 60_000);
  const signed = await run('a', { keys: [key] });
  const { snapshots } = await (await open([key])).snapshots();
  expect(snapshots.map(({ manifest, unsigned }) => [manifest.id, manifest.sequence, unsigned])).toEqual([
    [signed.id, 2, undefined],
    [plain.id, 1, true],
  ]);
  now = new Date(now.getTime() + 60_000);
  const without = await run('a');
  expect(without.error).toMatchObject({
    code: 'SIGNATURE_KEY',
    hint: expect.stringContaining(snapshots[0]?.manifest.signature?.keyId ?? '?'),
  });
  expect(await ids()).toHaveLength(2);
});

test('a run after one whose manifest was damaged does not take its number', async () => {
  const first = await run('a');
  writeFileSync(join(root, 'shop', 'snapshots', first.id, 'manifest.json'), '{');
  now = new Date(now.getTime() + 60_000);
  const second = await run('a');
  const { snapshots } = await (await open()).snapshots();
  expect(snapshots).toMatchObject([{ manifest: { id: second.id, sequence: 2, previous: null } }]);
});
