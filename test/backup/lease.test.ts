import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ErrorCode, LifeboatError } from '../../src/base/errors.ts';
import type { Destination } from '../../src/destinations/destination.ts';
import type { Manifest, ManifestSource } from '../../src/store/objects/manifest.ts';
import { chainBreaks } from '../../src/store/repository/chain.ts';
import { LEASE_MS } from '../../src/store/repository/lease-steps.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { rememberList, type SeenChain } from '../../src/store/repository/seen-chain.ts';
import { keys } from '../contract/destination.ts';
import { makeFailure } from '../report/fixtures.ts';
import { RunBench } from '../run/run-bench.ts';

/** Runs of several agents on one repository, with and without a signing key. */

let bench: RunBench;
beforeEach(async () => {
  bench = new RunBench();
  await bench.open();
});
afterEach(() => bench.remove());

test('while another agent has the lease, no run begins, and the daemon may try again', async () => {
  const other = await bench.leaseOf('b');
  await expect(bench.run('a')).rejects.toMatchObject({ code: 'LOCKED' });
  expect(bench.done).toEqual(['unlocked']);
  await other.release();
  const report = await bench.run('a');
  expect(report.error).toBeUndefined();
  expect(report.snapshot).toBe(report.id);
  await bench.leaseOf('b');
});

test('a run that is asked to stop before it begins does not begin, and reports nothing', async () => {
  const stop = new AbortController();
  const reason = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
  const confirm = async () => stop.abort(reason);
  await expect(bench.run('a', { request: { signal: stop.signal, confirm } })).rejects.toBe(reason);
  expect(bench.done).toEqual(['unlocked']);
});

test('a delayed run commits nothing after another agent took over', async () => {
  const held = await bench.run('a', {
    async during() {
      bench.later(LEASE_MS);
      const other = await bench.run('b');
      expect(other.snapshot).toBe(other.id);
    },
  });
  expect(held.error).toMatchObject({ code: 'LEASE_LOST' });
  expect(held.snapshot).toBeUndefined();
  expect(await bench.ids()).toHaveLength(1);
});

/** A destination that delays manifests. `arrived` resolves to a function that lets the first one continue. */
function withManifestsHeld() {
  const arrived = Promise.withResolvers<() => void>();
  const of = bench.destination();
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

test('a manifest that arrives after another agent took over and committed is an older link of the same chain', async () => {
  const first = await bench.run('a');
  const { repository, arrived } = withManifestsHeld();
  bench.later(60_000);
  const late = bench.run('a', { repository });
  const land = await arrived;
  bench.later(LEASE_MS + 60_000);
  const other = await bench.run('b');
  land();
  const report = await late;
  expect([report.error, other.error]).toEqual([undefined, undefined]);
  const { snapshots } = await (await bench.open()).snapshots();
  expect(Object.fromEntries(snapshots.map(({ manifest }) => [manifest.id, manifest.sequence]))).toEqual({
    [first.id]: 1,
    [report.id]: 2,
    [other.id]: 3,
  });
  expect(chainBreaks(snapshots, [])).toEqual([]);
});

test('a manifest that is withdrawn because its objects are gone leaves a tombstone for an agent that has seen it', async () => {
  const of = bench.destination();
  const id = '20261120T030000Z-aaaaaa';
  let seen: SeenChain = [];
  const repository = await openRepository(of, { project: 'shop', create: true, keys: {} });
  const index = await repository.putFacts(id, 'config', {});
  const time = '2026-11-20T03:00:00.000Z';
  const manifest: Manifest = {
    ...{ format: 1, id, project: 'shop', start: time, end: time, trigger: 'schedule', agentVersion: '0.1.0' },
    ...{ status: 'ok', sequence: 1, previous: null },
    sources: { config: { ...SOURCE, index } },
  };
  let calls = 0;
  const fence = async () => {
    calls += 1;
    if (calls === 1) return undefined;
    // The other agent has listed the manifest, and its prune has removed the objects.
    seen = rememberList(await repository.snapshots(), []);
    await of.delete(index.key);
    throw new LifeboatError('LEASE_LOST', 'lost');
  };
  await expect(repository.commit(manifest, { fence })).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  expect(seen).toHaveLength(1);
  const other = await openRepository(of, { project: 'shop', create: false, keys: {}, seen: async () => seen });
  expect(await other.snapshots()).toEqual({ snapshots: [], damaged: [] });
});

const SOURCE: ManifestSource = {
  ...{ kind: 'volume', status: 'ok', files: 1, bytes: 1, newBytes: 1, newFiles: 1 },
  ...{ summary: '', warnings: [], skipped: {} },
};

test('objects of a run stay while its manifest may still arrive, and are removed when it cannot', async () => {
  const facts = async () => (await bench.open()).putFacts('20261120T030000Z-aaaaaa', 'config', {});
  const stored = async () => (await keys(bench.destination(), 'shop/snapshots/')).length;
  const failing = (code: ErrorCode) => {
    const of = bench.destination();
    const put: Destination['put'] = async (key, body, options) => {
      if (!key.endsWith('/manifest.json')) return of.put(key, body, options);
      throw new LifeboatError(code, 'no');
    };
    const repository = () => openRepository({ ...of, put }, { project: 'shop', create: true, keys: {} });
    return bench.run('a', { repository, stores: async (record) => record((await facts()).key) });
  };
  expect((await failing('DEST_FULL')).error?.code).toBe('DEST_FULL');
  expect(await stored()).toBe(0);
  expect((await failing('DEST_UNREACHABLE')).error?.code).toBe('DEST_UNREACHABLE');
  expect(await stored()).toBe(1);
});

test('a manifest whose response was lost counts as stored', async () => {
  const of = bench.destination();
  const put: Destination['put'] = async (key, body, options) => {
    const done = await of.put(key, body, options);
    if (key.endsWith('/manifest.json')) throw new LifeboatError('DEST_UNREACHABLE', 'no answer');
    return done;
  };
  const repository = () => openRepository({ ...of, put }, { project: 'shop', create: true, keys: {} });
  const report = await bench.run('a', { repository });
  expect([report.error, report.snapshot]).toEqual([undefined, report.id]);
});

test('a destination that fails before the run has the lease is reported as the failure of the run', async () => {
  const lease = async () => {
    throw new LifeboatError('DEST_FULL', 'no space');
  };
  expect((await bench.run('a', { lease })).error).toMatchObject({ code: 'DEST_FULL' });
  expect(bench.done).toEqual(['begun', 'run-started', 'run-finished', 'unlocked']);
});

test('once snapshots are signed, no run succeeds without the key', async () => {
  const key = 'a key of many characters';
  const plain = await bench.run('a');
  bench.later(60_000);
  const signed = await bench.run('a', { keys: [key] });
  const { snapshots } = await (await bench.open([key])).snapshots();
  expect(snapshots.map(({ manifest, unsigned }) => [manifest.id, manifest.sequence, unsigned])).toEqual([
    [signed.id, 2, undefined],
    [plain.id, 1, true],
  ]);
  bench.later(60_000);
  const without = await bench.run('a');
  expect(without.error).toMatchObject({
    code: 'SIGNATURE_KEY',
    hint: expect.stringContaining(snapshots[0]?.manifest.signature?.keyId ?? '?'),
  });
  expect(await bench.ids()).toHaveLength(2);
});

test('a run after a damaged manifest does not reuse its number', async () => {
  const first = await bench.run('a');
  writeFileSync(join(bench.root, 'shop', 'snapshots', first.id, 'manifest.json'), '{');
  bench.later(60_000);
  const second = await bench.run('a');
  const { snapshots } = await (await bench.open()).snapshots();
  expect(snapshots).toMatchObject([{ manifest: { id: second.id, sequence: 2, previous: null } }]);
});

test('an agent without a memory takes no sequence that a copy has; one that knows the chain does not ask', async () => {
  const sequences = async () =>
    (await (await bench.open()).snapshots()).snapshots.map(({ manifest }) => manifest.sequence);
  await bench.run('a', { highestCopied: async () => ({ taken: 7, unknown: [] }) });
  await bench.run('a', { highestCopied: () => expect.fail('the agent knows the chain') });
  expect(await sequences()).toEqual([9, 8]);
  // What a failed run found out is still true in the next one.
  await bench.run('b', {
    highestCopied: async (_, end) => ({ taken: end + 20, unknown: ['/nas'] }),
    fails: makeFailure({ name: 'config', kind: 'files' }),
  });
  await bench.run('b', { highestCopied: () => expect.fail('the agent remembers it') });
  expect(await sequences()).toEqual([30, 9, 8]);
  // Numbers that cannot be read may be taken.
  mkdirSync(join(bench.state('b').directory, 'abandoned.json'));
  await bench.run('b', { highestCopied: async () => ({ taken: 40, unknown: [] }) });
  expect(await sequences()).toEqual([41, 30, 9, 8]);
});
