import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { RunContext } from '../../../src/backup/context.ts';
import { prepareKnown } from '../../../src/backup/known-contents.ts';
import { previousTree } from '../../../src/backup/previous-tree.ts';
import { LifeboatError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import type { Plan } from '../../../src/plan/model.ts';
import type { SealKeys } from '../../../src/plan/seal-keys.ts';
import { prune } from '../../../src/prune/prune.ts';
import { lastStoredOf } from '../../../src/run/history.ts';
import { openState } from '../../../src/run/state.ts';
import { measureUse, renewalRule } from '../../../src/store/content/repack.ts';
import { ContentTable } from '../../../src/store/known/content-table.ts';
import { StoredSizes } from '../../../src/store/objects/key-set.ts';
import { manifestKey } from '../../../src/store/objects/manifest.ts';
import { openRepository } from '../../../src/store/repository/open-repository.ts';
import { objectsOf, readPacks } from '../../../src/store/repository/pack-lists.ts';
import type { Repository } from '../../../src/store/repository/repository.ts';
import { writeUnreferenced } from '../../../src/store/repository/unreferenced.ts';
import { type Bench, createBench } from '../../store/helpers.ts';

/** What runs store if other kept snapshots have the same content. */

const MEDIA = 'web.media';
let bench: Bench;
let number: number;
beforeEach(() => {
  bench = createBench();
  number = 0;
  mkdirSync(path.join(bench.tree, 'sub'));
  write('top', 40_000);
  for (let i = 0; i < 20; i++) write(`sub/${i}`, 20_000);
  // In parts.
  write('sub/large', 3_000_000);
});
afterEach(() => bench.remove());

const at = (name: string) => path.join(bench.tree, name);
const write = (name: string, size: number) => writeFileSync(at(name), randomBytes(size));
const tableOf = () => path.join(bench.spool, 'state', 'contents');
const state = () => openState(path.join(bench.spool, 'state'));
const open = (keys: SealKeys = {}) =>
  openRepository(bench.destination, { project: 'shop', create: true, keys }) as Promise<Repository>;

/** A run as in src/backup/store.ts and capture.ts. */
async function run(source = MEDIA, keys: SealKeys = {}, beforeCommit = async () => {}) {
  const repository = await open(keys);
  const { snapshots } = await repository.snapshots();
  const stored = new StoredSizes();
  for await (const object of bench.destination.list('shop/')) stored.add(object);
  const id = `20261120T0300${String(++number).padStart(2, '0')}Z-4f1c9a`;
  const signal = AbortSignal.timeout(100_000);
  const of = { repository, snapshots, stored, signal, log: silentLog, run: { trigger: 'manual', sources: [source] } };
  const context = of as unknown as RunContext;
  const directory = path.join(bench.spool, id);
  const renewal = renewalRule(0.05);
  const known = await prepareKnown({ state: state(), context, renewal, directory });
  if (known) context.known = known;
  const manifests = snapshots.map(({ manifest }) => manifest);
  const last = lastStoredOf(manifests, source);
  const { tree, renewed, warnings } = await previousTree({ state: state(), context, renewal }, source, last, directory);
  const coversPrevious = last?.entry.index !== undefined && known?.isCovered(last.entry.index.sha256) === true;
  const { table, of: about, packs: file } = known!;
  const result = await bench.storeAfterTick({
    ...{ source, keys, ...(tree ? { previous: tree } : {}) },
    known: { table, of: about, packs: file, without: [...(renewed ?? [])], coversPrevious },
  });
  const index = await repository.putIndex(id, source, bench.index);
  const packs = await repository.putPacks({ id, source, packs: result.packs, use: await measureUse(bench.index) });
  const { files, bytes, newBytes, newFiles } = result;
  const time = '2026-11-20T03:00:00.000Z';
  await beforeCommit();
  const { manifest } = await repository.commit({
    ...{ format: 1, id, project: 'shop', start: time, end: time, trigger: 'manual', agentVersion: '0', status: 'ok' },
    ...{ sequence: number, previous: snapshots[0]?.hash ?? null },
    sources: {
      [source]: {
        ...{ kind: 'volume', status: 'ok', index, files, bytes, newBytes, newFiles, ...(packs ? { packs } : {}) },
        ...{ summary: '', warnings, skipped: {} },
      },
    },
  });
  await repository.checkObjects(await objectsOf(repository, manifest));
  await state().cacheIndex(source, index.sha256, bench.index);
  const cached = (await state().cachedIndex(source, index.sha256)) as string;
  await known?.add(cached, { sha256: index.sha256, packs: result.packs, isBasedOnTable: coversPrevious });
  return { ...result, id, manifest, cached };
}

/** Restores the index of a run, and compares the tree. */
async function expectRestorable({ packs, cached }: Awaited<ReturnType<typeof run>>, keys: SealKeys = {}) {
  writeFileSync(bench.index, readFileSync(cached));
  const { target } = await bench.extract({ packs }, { keys });
  const names = readdirSync(bench.tree, { recursive: true }) as string[];
  for (const name of names.filter((one) => one.includes('/') || one === 'top'))
    expect(readFileSync(path.join(target, name)).equals(readFileSync(at(name))), name).toBe(true);
}

test('a subtree that was missing for one run costs nothing when it returns', async () => {
  await run();
  renameSync(at('sub'), path.join(bench.spool, 'away'));
  expect(await run()).toMatchObject({ newBytes: 0, files: 1 });
  renameSync(path.join(bench.spool, 'away'), at('sub'));
  const back = await run();
  expect(back).toMatchObject({ newBytes: 0, newFiles: 0, files: 22 });
  await expectRestorable(back);
});

test('a renamed source costs nothing, and its snapshot needs nothing else', async () => {
  const first = await run();
  const renamed = await run('site.media');
  expect(renamed).toMatchObject({ newBytes: 0, newFiles: 0, files: 22 });
  // The old snapshot is gone, and its documents too.
  await bench.destination.delete(manifestKey('shop', first.id));
  await expectRestorable(renamed);
});

test('content of a snapshot that is not kept any more is stored again', async () => {
  const first = await run();
  const second = await run('site.media');
  expect(second.newBytes).toBe(0);
  await bench.destination.delete(manifestKey('shop', first.id));
  await bench.destination.delete(manifestKey('shop', second.id));
  number = 0;
  // The packs are there still, but nothing keeps a prune from deleting them.
  expect((await run('other.media')).newBytes).toBeGreaterThan(3_000_000);
});

test('copies of a file are stored once, although the pack that held it may not be used', async () => {
  await run();
  for (let i = 0; i < 30; i++) writeFileSync(at(`sub/copy-${i}`), readFileSync(at('sub/large')).subarray(0, 500_000));
  const { packs } = await run();
  const repository = await open();
  // A check found all packs damaged.
  await state().saveDamaged(packs.map(({ key }) => key));
  const again = await run();
  expect(again.newBytes).toBeLessThan(4_500_000);
  expect(again.packs.some(({ id }) => packs.some((old) => old.id === id))).toBe(false);
  await expectRestorable(again);
  // One of the packs is gone from the destination, and nobody knows yet.
  const [gone] = await readPacks(repository, again.manifest.sources[MEDIA]!);
  await bench.destination.delete(gone?.key as string);
  renameSync(at('sub'), at('renamed'));
  const whole = await run();
  expect(whole.packs.some(({ id }) => id === gone?.id)).toBe(false);
  await expectRestorable(whole);
});

test('a table that is lost, or belongs to another repository, is made again from the indexes', async () => {
  await run();
  renameSync(at('sub'), path.join(bench.spool, 'away'));
  await run();
  renameSync(path.join(bench.spool, 'away'), at('sub'));
  rmSync(path.join(bench.spool, 'state'), { recursive: true });
  const back = await run();
  expect(back).toMatchObject({ newBytes: 0, files: 22 });
  await expectRestorable(back);
  const shown = path.join(tableOf(), 'state.json');
  writeFileSync(shown, readFileSync(shown, 'utf8').replace(/"of":"[^"]*"/, '"of":"another"'));
  const renamed = await run('site.media');
  expect(renamed.newBytes).toBe(0);
  await expectRestorable(renamed);
  writeFileSync(path.join(tableOf(), 'facts'), Buffer.alloc(10_000, 7));
  writeFileSync(path.join(tableOf(), 'slots'), 'x');
  const third = await run('third.media');
  await expectRestorable(third);
});

test.each([
  ['small', async () => undefined],
  ['made smaller meanwhile', growTable],
])('content behind a change of keys is stored once for each key, with a table that is %s', async (_, grow) => {
  const first = await run();
  const keys = { gpgPassphrase: 'a passphrase of this test' } as SealKeys;
  const sealed = await run(MEDIA, keys);
  expect(sealed.newBytes).toBeGreaterThan(3_000_000);
  await grow();
  expect(await run('site.media', keys)).toMatchObject({ newBytes: 0 });
  await expectRestorable(sealed, keys);
  const back = await run();
  expect(back).toMatchObject({ newBytes: 0, newFiles: 0 });
  expect(back.packs.map(({ id }) => id).sort()).toEqual(first.packs.map(({ id }) => id).sort());
  await expectRestorable(back);
  const again = await run(MEDIA, keys);
  expect(again).toMatchObject({ newBytes: 0, newFiles: 0 });
  await expectRestorable(again, keys);
});

/** Adds so many facts about packs that nobody names that the next run makes the table smaller. */
async function growTable() {
  const { of } = JSON.parse(readFileSync(path.join(tableOf(), 'state.json'), 'utf8'));
  const table = await ContentTable.write(tableOf(), of);
  const fact = { kind: 'file', size: 1, pack: 'f'.repeat(32), entry: 'x'.repeat(60_000) } as const;
  for (let n = 0; n < 300; n++) await table.add({ ...fact, sha256: n.toString(16).padStart(64, '0') });
  await table.close();
}

test('content in a pack that is whole again after all is found there', async () => {
  const { packs: first } = await run();
  await state().saveDamaged(first.map(({ key }) => key));
  const { packs: second } = await run();
  await state().saveDamaged(second.map(({ key }) => key));
  expect(await run()).toMatchObject({ newBytes: 0 });
});

test('a table stays if the packs cannot be listed, and is removed if it cannot be used itself', async () => {
  await run();
  const repository = await open();
  const { snapshots } = await repository.snapshots();
  const unreachable = async () => {
    throw new LifeboatError('DEST_UNREACHABLE', 'no answer');
  };
  const prepare = (over: Partial<Repository>, directory = path.join(bench.spool, 'known')) => {
    const changed = Object.assign(Object.create(repository), over) as Repository;
    const of = { repository: changed, snapshots, stored: new StoredSizes(), log: silentLog };
    const context = {
      ...of,
      signal: AbortSignal.timeout(100_000),
      run: { trigger: 'manual', sources: [MEDIA] },
    } as unknown as RunContext;
    return prepareKnown({ state: state(), context, renewal: renewalRule(0.05), directory });
  };
  const facts = path.join(tableOf(), 'facts');
  const before = readFileSync(facts);
  expect(await prepare({ readPackList: unreachable })).toBeUndefined();
  // The spool cannot take the list.
  expect(await prepare({}, path.join(facts, 'known'))).toBeUndefined();
  expect(readFileSync(facts).equals(before)).toBe(true);
  // The table itself cannot be read, and so not be repaired.
  rmSync(facts);
  mkdirSync(facts);
  expect(await prepare({})).toBeUndefined();
  expect(existsSync(tableOf())).toBe(false);
});

test('what a source needs of older snapshots is read before it begins: its service may be stopped then', async () => {
  await run();
  for (let i = 0; i < 20; i++) rmSync(at(`sub/${i}`));
  await run();
  rmSync(at('sub/large'));
  const { manifest } = await run();
  for (const { manifest: old } of (await (await open()).snapshots()).snapshots.slice(1))
    await bench.destination.delete(manifestKey('shop', old.id));
  await run('other.media');
  await run('third.media');
  rmSync(path.join(bench.spool, 'state'), { recursive: true });
  const requests: string[] = [];
  const repository = await open();
  const { snapshots } = await repository.snapshots();
  const counting = Object.assign(Object.create(repository), {
    readPackList: (...args: Parameters<Repository['readPackList']>) => {
      requests.push('list');
      return repository.readPackList(...args);
    },
    fetchIndex: (...args: Parameters<Repository['fetchIndex']>) => {
      requests.push('index');
      return repository.fetchIndex(...args);
    },
  }) as Repository;
  const stored = new StoredSizes();
  for await (const object of bench.destination.list('shop/')) stored.add(object);
  const signal = AbortSignal.timeout(100_000);
  const of = { repository: counting, snapshots, stored, signal, log: silentLog };
  const context = { ...of, run: { trigger: 'manual', sources: [MEDIA] } } as unknown as RunContext;
  const renewal = renewalRule(0.05);
  const directory = path.join(bench.spool, 'counted');
  const known = await prepareKnown({ state: state(), context, renewal, directory });
  if (known) context.known = known;
  expect(requests).toContain('index');
  requests.length = 0;
  const last = { snapshot: manifest.id, at: manifest.end, entry: manifest.sources[MEDIA]! };
  const { renewed, tree } = await previousTree({ state: state(), context, renewal }, MEDIA, last, directory);
  expect(tree?.indexPath).toContain('counted');
  expect(renewed?.size).toBe(1);
  // Another source of the run stores its content again, and this one cannot find it yet.
  const claiming = { state: state(), context, renewal, claimed: renewed! };
  const later = await previousTree(claiming, MEDIA, last, directory);
  expect(later.renewed?.size).toBe(0);
  expect(later.tree?.packs.map(({ id }) => id)).toEqual(expect.arrayContaining([...renewed!]));
  requests.splice(1);
  // The list of the source itself, which the spool usually keeps.
  expect(requests).toEqual(['list']);
});

/** Prunes as an agent that takes the lease later. */
async function pruneNow() {
  const keep = { last: 5 };
  const plan = { project: 'shop', problems: [], sources: [{ name: 'site.media', keep, schedule: '0 3 * * *' }] };
  return prune(
    {
      ...{ repository: await open(), plan: plan as unknown as Plan, keep, zone: 'UTC', log: silentLog },
      state: { accepted: async () => ({}), results: async () => ({}) },
      journals: path.join(bench.spool, 'journals'),
      now: () => new Date('2026-11-25T03:00:00Z'),
      fence: async () => undefined,
      clockJump: () => undefined,
      signal: AbortSignal.timeout(100_000),
    },
    { dryRun: false, clockIsRight: true },
  );
}

test('a pack whose only snapshot is removed while a run uses it stays, although a prune had listed it', async () => {
  const first = await run();
  const packs = first.packs.map(({ key }) => key);
  // Another agent's prune is late: it removes the snapshot, and its list says that the packs are long unneeded.
  const late = async () => {
    await bench.destination.delete(manifestKey('shop', first.id));
    const seen = new Map(packs.map((key) => [key, Date.parse('2026-11-20T03:00:00Z')]));
    await writeUnreferenced(bench.destination, 'shop', seen, new Date('2026-11-20T03:00:00Z'));
  };
  const second = await run('site.media', {}, late);
  expect(second.newBytes).toBe(0);
  await pruneNow();
  const repository = await open();
  await repository.checkObjects(await objectsOf(repository, second.manifest));
  await expectRestorable(second);
});

test('a pack that is deleted while a run uses it keeps that run from being committed', async () => {
  const first = await run();
  const gone = first.packs[0]?.key as string;
  const late = () => bench.destination.delete(gone);
  await expect(run('site.media', {}, late)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  const { snapshots } = await (await open()).snapshots();
  expect(snapshots.map(({ manifest }) => manifest.id)).toEqual([first.id]);
});

/** Stores two sources with equal trees in one run, and commits the second one. `renew`: packs that both renew. */
async function runBoth(renewed: readonly string[] = []) {
  const repository = await open();
  const { snapshots } = await repository.snapshots();
  const stored = new StoredSizes();
  for await (const object of bench.destination.list('shop/')) stored.add(object);
  const sources = [MEDIA, 'site.media'] as const;
  const of = { repository, snapshots, stored, signal: AbortSignal.timeout(100_000), log: silentLog };
  const context = { ...of, run: { trigger: 'manual', sources } } as unknown as RunContext;
  const id = `20261120T0300${String(++number).padStart(2, '0')}Z-4f1c9a`;
  const directory = path.join(bench.spool, id);
  const known = (await prepareKnown({ state: state(), context, renewal: renewalRule(0.05), directory }))!;
  const { table, of: about, packs } = known;
  const ref = { table, of: about, packs, without: renewed, coversPrevious: false };
  const first = await bench.store({ source: sources[0], known: ref });
  await known.share(sources[0], bench.index, { packs: first.packs, renewed: new Set(renewed) });
  expect([...known.shared]).toEqual([sources[0]]);
  const second = await bench.store({ source: sources[1], known: ref });
  const index = await repository.putIndex(id, sources[1], bench.index);
  const list = await repository.putPacks({ id, source: sources[1], packs: second.packs });
  const { files, bytes, newBytes, newFiles } = second;
  const time = '2026-11-20T03:00:00.000Z';
  const entry = { kind: 'volume', status: 'ok', index, files, bytes, newBytes, newFiles, packs: list } as const;
  const { manifest } = await repository.commit({
    ...{ format: 1, id, project: 'shop', start: time, end: time, trigger: 'manual', agentVersion: '0', status: 'ok' },
    ...{ sequence: number, previous: snapshots[0]?.hash ?? null },
    sources: { [sources[1]]: { ...entry, summary: '', warnings: [], skipped: {} } },
  });
  await repository.checkObjects(await objectsOf(repository, manifest));
  await state().cacheIndex(sources[1], index.sha256, bench.index);
  const cached = (await state().cachedIndex(sources[1], index.sha256)) as string;
  await known.add(cached, { sha256: index.sha256, packs: second.packs, isBasedOnTable: false });
  return { first, second: { ...second, id, manifest, cached } };
}

test('a source stores nothing that an earlier one of the same run has stored', async () => {
  const { first, second } = await runBoth();
  expect(first.newBytes).toBeGreaterThan(3_000_000);
  expect(second).toMatchObject({ newBytes: 0, newFiles: 0, files: 22 });
  await expectRestorable(second);
  // The first source failed after all, and no snapshot has it. The next run finds everything.
  expect(await run()).toMatchObject({ newBytes: 0, newFiles: 0 });
});

test('content that two sources share is stored once when both renew its packs', async () => {
  const before = await run('former.media');
  const { first, second } = await runBoth(before.packs.map(({ id }) => id));
  expect(first.newBytes).toBeGreaterThan(3_000_000);
  expect(second).toMatchObject({ newBytes: 0, newFiles: 0, files: 22 });
  expect(second.packs.map(({ id }) => id).sort()).toEqual(first.packs.map(({ id }) => id).sort());
  await expectRestorable(second);
});

test('a run that failed after its sources knew of each other leaves nothing that the next one could miss', async () => {
  const { first, second } = await runBoth();
  await bench.destination.delete(manifestKey('shop', second.id));
  for (const { key } of first.packs) await bench.destination.delete(key);
  number = 0;
  const next = await run('other.media');
  expect(next.newBytes).toBeGreaterThan(3_000_000);
  await expectRestorable(next);
});
