import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Destination } from '../../src/destinations/destination.ts';
import type { KeepPolicy, Plan } from '../../src/plan/model.ts';
import { parseKeep } from '../../src/plan/retention.ts';
import { type PruneAloneDeps, pruneAlone } from '../../src/prune/alone.ts';
import { watchClock } from '../../src/prune/clock-jump.ts';
import { type PruneDeps, type PruneRequest, prune } from '../../src/prune/prune.ts';
import { renderPrune } from '../../src/report/prune-text.ts';
import { Journal } from '../../src/run/journal.ts';
import type { LastResult } from '../../src/run/source-status.ts';
import { type Manifest, type ManifestSource, manifestKey } from '../../src/store/objects/manifest.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import type { PackRef } from '../../src/store/packs/pack-stream.ts';
import { chainBreaks } from '../../src/store/repository/chain.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { objectsOf, readPacks } from '../../src/store/repository/pack-lists.ts';
import { putPin } from '../../src/store/repository/pins.ts';
import type { Repository, Snapshot } from '../../src/store/repository/repository.ts';
import { placeOf } from '../../src/store/repository/seen-chain.ts';
import { readTombstones } from '../../src/store/repository/tombstones.ts';
import { keys } from '../contract/destination.ts';
import { scratchBase } from '../store/helpers.ts';
import { inMemory } from '../store/memory-destination.ts';

const MEDIA = 'web.media';
const DAY = 86_400_000;

let root: string;
let objects: Map<string, string>;
let destination: Destination;
let repository: Repository;
let last: Snapshot | undefined;
let now: number;
let accepted: Record<string, string>;
let results: Record<string, LastResult>;
let planned: Record<string, string>;

beforeEach(async () => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-prune-'));
  objects = new Map();
  destination = inMemory('memory', objects);
  repository = await openRepository(destination, { project: 'shop', create: true, keys: {} });
  last = undefined;
  now = Date.parse('2026-11-10T03:00:00Z');
  accepted = {};
  results = {};
  planned = { [MEDIA]: '2d' };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const idOf = (time: number, suffix = 'aaaaaa') =>
  `${new Date(time).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z-${suffix}`;
const packKey = (name: string) => `shop/packs/${MEDIA}/${name.padEnd(32, '0').slice(0, 2)}/${name.padEnd(32, '0')}.zip`;

async function put(key: string) {
  const stored = await destination.put(key, streamOf(`content of ${key}`));
  return { key, ...stored };
}

/** Commits a snapshot at the present time, with its own index and packs by name. Existing packs are reused. */
async function snapshot(packs: string[], over: Partial<ManifestSource> = {}, manifest: Partial<Manifest> = {}) {
  const id = idOf(now);
  const refs: PackRef[] = [];
  const before = last?.manifest.sources[MEDIA];
  const lastPacks = before ? await readPacks(repository, before) : [];
  for (const name of packs) {
    const known = lastPacks.find(({ key }) => key === packKey(name));
    refs.push(known ?? { ...(await put(packKey(name))), id: name.padEnd(32, '0'), plainSize: 1 });
  }
  const list = await repository.putPacks({ id, source: MEDIA, packs: refs });
  const index = await put(`shop/snapshots/${id}/${MEDIA}.index.ndjson.zst`);
  const entry: ManifestSource = {
    ...{ kind: 'volume', status: 'ok', index, files: 1, bytes: 1, newBytes: 1, newFiles: 1 },
    ...{ summary: '', warnings: [], skipped: {} },
    ...(list ? { packs: list } : {}),
    ...over,
  };
  const time = new Date(now).toISOString();
  last = await repository.commit({
    ...{ format: 1, id, project: 'shop', start: time, end: time, trigger: 'schedule', agentVersion: '0.1.0' },
    ...{ sequence: (last?.manifest.sequence ?? 0) + 1, previous: last?.hash ?? null, status: 'ok' },
    sources: { [MEDIA]: entry },
    ...manifest,
  });
  return last;
}

/** Commits one snapshot each night, each with its own pack and one that all share. */
async function nights(count: number) {
  const all: Snapshot[] = [];
  for (let i = 0; i < count; i++) {
    all.push(await snapshot(['ab', `${i}${i}`]));
    now += DAY;
  }
  now -= DAY - 60_000;
  return all;
}

function deps(over: Partial<PruneDeps> = {}): PruneDeps {
  const policy = (text: string) => (parseKeep(text) as { value: KeepPolicy }).value;
  const sources = Object.entries(planned).map(([name, keep]) => ({ name, keep: policy(keep), schedule: '0 3 * * *' }));
  return {
    repository,
    plan: { project: 'shop', problems: [], sources } as unknown as Plan,
    keep: policy('1d'),
    state: { accepted: async () => accepted, results: async () => results },
    journals: join(root, 'journals'),
    zone: 'UTC',
    now: () => new Date(now),
    log: silentLog,
    fence: async () => undefined,
    clockJump: () => undefined,
    signal: new AbortController().signal,
    ...over,
  };
}
const run = (request: Partial<PruneRequest> = {}, over: Partial<PruneDeps> = {}) =>
  prune(deps(over), { dryRun: false, ...request });
const ids = async () => (await repository.snapshots()).snapshots.map(({ manifest }) => manifest.id);
const packs = async () => (await keys(destination, 'shop/packs/')).map((key) => key.split('/').at(-1)?.slice(0, 2));

describe('prune', () => {
  test('deletes nothing while a snapshot that was seen is missing, which may need any object', async () => {
    const all = await nights(4);
    const [, lost] = all as [Snapshot, Snapshot];
    await destination.delete(manifestKey('shop', lost.manifest.id));
    now += 2 * DAY;
    const before = await keys(destination, '');
    const seen = async () => all.map(placeOf);
    const remembering = await openRepository(destination, { project: 'shop', create: false, keys: {}, seen });
    const refused = { code: 'CHAIN_BROKEN', message: expect.stringContaining(lost.manifest.id) };
    for (const dryRun of [true, false])
      await expect(run({ dryRun }, { repository: remembering })).rejects.toMatchObject(refused);
    expect(await keys(destination, '')).toEqual(before);
    await run();
    now += DAY;
    await run();
    expect(await packs()).not.toContain('11');
  });

  test('removes snapshots at once, and the objects that only they named in a second pass a day later', async () => {
    const all = await nights(4);
    const before = await keys(destination, '');
    const shown = await run({ dryRun: true });
    expect(await keys(destination, '')).toEqual(before);
    expect(renderPrune(shown, { now: new Date(now), zone: 'UTC' })).toMatch(
      /keep +daily 2026-11-12\n.* remove +no source needs it .*\n.*\n\n2 snapshots would be removed, 2 snapshots kept/,
    );

    const first = await run();
    expect(first).toMatchObject({ snapshots: 2, objects: 0, waiting: { objects: 6 } });
    expect(await ids()).toEqual([all[3]?.manifest.id, all[2]?.manifest.id]);
    expect(await packs()).toEqual(['00', '11', '22', '33', 'ab']);

    now += DAY - 60_000;
    expect(await run()).toMatchObject({ snapshots: 0, objects: 0 });
    now += 60_000;
    const second = await run();
    expect(second).toMatchObject({ snapshots: 0, objects: 6, waiting: { objects: 0 } });
    expect(second.bytes).toBeGreaterThan(0);
    expect(await packs()).toEqual(['22', '33', 'ab']);
    expect(await keys(destination, 'shop/unreferenced/')).toEqual([]);
    for (const { manifest } of (await repository.snapshots()).snapshots)
      await repository.checkObjects(await objectsOf(repository, manifest));
  });

  test('a dry run says what the next backup stores again', async () => {
    await nights(1);
    const renewal = [{ source: MEDIA, packs: 3, bytes: 40 * 1024 ** 2, again: 12 * 1024 ** 2 }];
    const shown = { ...(await run({ dryRun: true })), renewal };
    expect(renderPrune(shown, { now: new Date(now), zone: 'UTC' })).toContain(
      `the next backup stores 12.0 MiB of ${MEDIA} again, to free 3 packs (40.0 MiB) once no older snapshot needs them`,
    );
  });

  test('while the list of packs of a kept snapshot cannot be read, no pack is deleted, but snapshots are removed', async () => {
    const all = await nights(4);
    const list = all[3]?.manifest.sources[MEDIA]?.packs?.key as string;
    const content = objects.get(list) as string;
    objects.set(list, content.replace(/.$/s, '~'));
    const before = await packs();
    expect(await run()).toMatchObject({ snapshots: 2, unread: [list], waiting: { objects: 4 } });
    expect(await ids()).toHaveLength(2);
    now += 2 * DAY;
    const shown = await run();
    expect(await packs()).toEqual(before);
    expect(renderPrune(shown, { now: new Date(now), zone: 'UTC' })).toContain(`could name it: ${list}`);
    // No list names documents, so these need not stay. The day of waiting for the packs begins once the list is back.
    expect([...objects.keys()].filter((key) => key.endsWith('.packs.ndjson.zst'))).toHaveLength(2);
    objects.set(list, content);
    expect(await run()).toMatchObject({ waiting: { objects: 2 } });
    now += DAY;
    await run();
    expect(await packs()).toEqual(['22', '33', 'ab']);
  });

  test('an object that a manifest names again is not deleted', async () => {
    const all = await nights(3);
    planned[MEDIA] = 'last 1';
    now += DAY;
    await run();
    expect(await packs()).toContain('11');
    now += DAY;
    // For example, a manifest was copied back.
    last = { ...(all[2] as Snapshot), manifest: { ...(all[1] as Snapshot).manifest, sequence: 3 } };
    await snapshot(['ab', '11'], {}, { sequence: 4, previous: all[2]?.hash ?? null });
    now += 1000;
    expect(await run()).toMatchObject({ objects: 5 });
    expect(await packs()).toEqual(['11', '22', 'ab']);
  });

  test('foreign files, other projects and announced objects are never deleted', async () => {
    const foreign = [
      'shop/packs/readme.txt',
      `shop/packs/${MEDIA}/ab/notes.zip`,
      'shop/snapshots/mine/web.media.index.ndjson',
      'shop/wal/x',
      'other/packs/web.media/ab/abababababababababababababababab.zip',
    ];
    for (const key of foreign) await put(key);
    const orphan = packKey('0e');
    const underWay = packKey('0f');
    await put(orphan);
    await put(underWay);
    await nights(1);
    const run1 = {
      id: idOf(now, 'bbbbbb'),
      rid: 'x',
      project: 'shop',
      trigger: 'manual' as const,
      start: '',
      sources: [],
    };
    const journal = new Journal(deps().journals, { type: 'start', verb: 'backup', run: run1 });
    journal.record({ type: 'object', key: underWay });
    expect(await run()).toMatchObject({ waiting: { objects: 1 } });
    now += DAY;
    expect(await run()).toMatchObject({ objects: 1 });
    const left = await keys(destination, '');
    expect(left).toEqual(expect.arrayContaining([...foreign, underWay]));
    expect(left).not.toContain(orphan);
  });

  test('removes nothing if the clock is set after the command began, even while snapshots are listed', async () => {
    await nights(4);
    const clockJump = watchClock(() => new Date(now));
    const before = await keys(destination, '');
    const list = destination.list.bind(destination);
    const set = inMemory('memory', objects);
    set.list = (prefix) => {
      if (prefix === 'shop/') now += 20 * DAY;
      return list(prefix);
    };
    const through = { repository: repository.through(set), clockJump };
    await expect(run({}, through)).rejects.toMatchObject({ code: 'CLOCK_JUMPED' });
    expect(await keys(destination, '')).toEqual(before);
    expect(await run({ clockIsRight: true }, through)).toMatchObject({ snapshots: 2 });
  });

  test('a damaged manifest keeps all objects that it may name, and no snapshot', async () => {
    const all = await nights(6);
    await run();
    now += DAY;
    // A manifest that retention had kept is damaged. The packs of those that are removed may be its own too.
    const left = (await repository.snapshots()).snapshots.map(({ manifest }) => manifest.id);
    const broken = left[1] as string;
    const manifest = manifestKey('shop', broken);
    const whole = objects.get(manifest) as string;
    objects.set(manifest, whole.slice(0, 100));
    const packs = () => [...objects.keys()].filter((key) => key.includes('/packs/'));
    const before = packs();
    await snapshot(['ab', 'cd']);
    now += DAY;
    await snapshot(['ab', 'ef']);
    now += 2 * DAY;
    const pruned = await run({ clockIsRight: true });
    expect(pruned.unreadable).toEqual({ snapshots: [broken], objects: expect.any(Number) });
    expect(pruned.unreadable?.objects).toBeGreaterThan(0);
    expect(pruned.snapshots).toBeGreaterThan(0);
    expect(packs()).toEqual(expect.arrayContaining(before));
    expect([...objects.keys()].some((key) => key.includes(`/snapshots/${broken}/`) && key !== manifest)).toBe(true);
    expect(renderPrune(pruned, { now: new Date(now), zone: 'UTC' })).toContain(
      `lifeboat forget ${broken} --unreadable`,
    );
    // It may share documents with a snapshot that was removed.
    const indexes = all.map(({ manifest: { id } }) => `shop/snapshots/${id}/${MEDIA}.index.ndjson.zst`);
    expect(indexes.filter((key) => objects.has(key)).length).toBeGreaterThan(left.length);
    // Once it is readable again, the day of waiting begins.
    objects.set(manifest, whole);
    expect(await run({ clockIsRight: true })).not.toHaveProperty('unreadable');
    expect(packs().length).toBeGreaterThan(2);
  });

  test('refuses a manifest that is not trusted, a clock that jumped, and a policy that keeps nothing', async () => {
    const all = await nights(4);
    const before = await keys(destination, '');
    now += 365 * DAY;
    await expect(run()).rejects.toMatchObject({ code: 'CLOCK_JUMPED' });
    expect((await run({ clockIsRight: true, dryRun: true })).snapshots).toBe(2);
    // All snapshots are from the future, so none is known to be old.
    now -= 2 * 365 * DAY;
    expect(await run()).toMatchObject({ snapshots: 0, objects: 0, waiting: { objects: 0 } });
    now += 365 * DAY;
    const broken = deps();
    broken.plan.sources.forEach((source) => {
      source.keep = {};
    });
    await expect(prune(broken, { dryRun: false })).rejects.toMatchObject({ code: 'SETTING_INVALID' });
    const key = `shop/snapshots/${all[0]?.manifest.id}/manifest.json`;
    objects.set(key, (objects.get(key) as string).replace('"format":1', '"format":99'));
    await expect(run()).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
      hint: expect.stringContaining(`lifeboat forget ${all[0]?.manifest.id} --unreadable`),
    });
    expect(await keys(destination, '')).toEqual(before);
  });

  test('removes no snapshot of a source whose last run failed, even if that run stored nothing', async () => {
    await nights(4);
    results = { [MEDIA]: { run: idOf(now, 'ffffff'), at: new Date(now).toISOString(), status: 'failed' } };
    const kept = await run();
    expect(kept.snapshots).toBe(0);
    expect(kept.decisions[3]?.sources[MEDIA]).toEqual([`${MEDIA} failed last`]);
    expect(kept.held).toEqual({ snapshots: 2, sources: [MEDIA] });
    expect(renderPrune(kept, { now: new Date(now), zone: 'UTC' })).toContain(`2 old snapshots kept because ${MEDIA}`);
  });

  test('a missing source keeps its last policy or the default until its absence is accepted', async () => {
    await nights(3);
    await snapshot(['ab'], { keep: '3d' });
    now += DAY;
    planned = {};
    expect((await run({ dryRun: true })).snapshots).toBe(1);
    accepted = { [MEDIA]: new Date(now + 1).toISOString() };
    expect((await run({ dryRun: true })).snapshots).toBe(3);
  });

  test('pinned snapshots stay, even if they are pinned at the last moment', async () => {
    const all = await nights(4);
    const [first, second] = all.map(({ manifest }) => manifest.id) as [string, string];
    await putPin(repository, first, { reason: 'before deploy 4.2', at: new Date(now).toISOString() });
    const late: Destination = {
      ...destination,
      async put(key, body) {
        const stored = await destination.put(key, body);
        if (key.includes('/tombstones/')) {
          await putPin(repository, second, { reason: 'quick', at: new Date(now).toISOString() });
        }
        return stored;
      },
    };
    const result = await run(
      {},
      { repository: await openRepository(late, { project: 'shop', create: false, keys: {} }) },
    );
    expect(result.snapshots).toBe(0);
    expect(result.decisions.slice(2).map(({ always }) => always)).toEqual([
      ['pinned just now'],
      ['pinned: before deploy 4.2'],
    ]);
    expect(await ids()).toHaveLength(4);
    expect(await keys(destination, 'shop/tombstones/')).toEqual([]);
    expect(await keys(destination, 'shop/unreferenced/')).toEqual([]);
  });

  test('tombstones keep the chain whole; a manifest that somebody else removed is reported', async () => {
    const all = await nights(6);
    planned[MEDIA] = 'last 1';
    await putPin(repository, all[2]?.manifest.id ?? '', { reason: 'x', at: new Date(now).toISOString() });
    now += DAY;
    await run();
    const breaks = async () => chainBreaks((await repository.snapshots()).snapshots, await readTombstones(repository));
    expect(await ids()).toHaveLength(2);
    expect(await breaks()).toEqual([]);
    objects.delete(`shop/snapshots/${all[2]?.manifest.id}/manifest.json`);
    expect(await breaks()).toMatchObject([{ snapshot: all[3]?.manifest.id, error: { code: 'CHAIN_BROKEN' } }]);
    objects.delete(`shop/tombstones/${all[0]?.manifest.id}.json`);
    expect(await breaks()).toHaveLength(2);
  });

  test('outside of a run it takes the lock, recovers and releases the lock; a dry run takes no lock', async () => {
    await nights(4);
    const done: string[] = [];
    const alone = (over: Partial<PruneAloneDeps> = {}): PruneAloneDeps => ({
      ...deps(),
      lock: async () => ({ release: async () => void done.push('released') }),
      lease: async () => ({
        fence: async () => void done.push('fenced'),
        release: async () => void done.push('lease back'),
      }),
      recover: async () => void done.push('recovered'),
      plan: async () => deps().plan,
      repository: async () => repository,
      ...over,
    });
    const { signal } = new AbortController();
    const locked = async () => {
      throw new LifeboatError('LOCKED', 'a backup is under way');
    };
    expect(await pruneAlone(alone({ lock: locked }), { dryRun: true }, signal)).toMatchObject({ snapshots: 2 });
    await expect(pruneAlone(alone({ lock: locked }), { dryRun: false }, signal)).rejects.toMatchObject({
      code: 'LOCKED',
    });
    expect(await ids()).toHaveLength(4);
    expect(done).toEqual([]);
    const unplanned = async () => {
      throw new LifeboatError('ENGINE_UNREACHABLE', 'no engine');
    };
    await expect(pruneAlone(alone({ plan: unplanned }), { dryRun: false }, signal)).rejects.toMatchObject({
      code: 'ENGINE_UNREACHABLE',
    });
    await pruneAlone(alone(), { dryRun: false }, signal);
    const ended = ['lease back', 'released'];
    expect(done).toEqual(['recovered', ...ended, 'recovered', 'fenced', 'fenced', ...ended]);
    expect(await ids()).toHaveLength(2);
  });

  test('at a destination that forbids deletions, snapshots stay unchanged, and each prune reports it', async () => {
    const all = await nights(4);
    await put(packKey('0e'));
    const asked: string[] = [];
    const refuse = async (key: string) => {
      asked.push(key);
      throw new LifeboatError('DELETE_REFUSED', key);
    };
    const opened = await openRepository(
      { ...destination, delete: refuse },
      { project: 'shop', create: false, keys: {} },
    );
    const before = await keys(destination, '');
    for (const night of [0, 1, 2]) {
      asked.length = 0;
      const result = await run({}, { repository: opened });
      // The unreferenced object is due from the second night on.
      expect(result).toMatchObject({
        snapshots: 0,
        objects: 0,
        refused: { snapshots: 2, objects: Math.min(night, 1) },
      });
      expect(result.decisions.map(({ keep }) => keep)).toEqual([true, true, true, true]);
      expect(renderPrune(result, { now: new Date(now), zone: 'UTC' })).toContain('2 snapshots and ');
      expect(asked.length).toBeLessThan(4);
      now += DAY;
    }
    expect((await keys(destination, '')).filter((key) => !before.includes(key))).toEqual([
      expect.stringContaining('shop/unreferenced/'),
    ]);
    expect(await ids()).toHaveLength(4);
    // Later, a prune with permission to delete runs.
    expect(await run()).toMatchObject({ snapshots: 2, objects: 1 });
    expect(await ids()).toEqual([all[3]?.manifest.id, all[2]?.manifest.id]);
  });

  test('locked objects are deleted after their locks expire, and the chain is whole meanwhile', async () => {
    await nights(4);
    const stored = new Map<string, number>();
    const locked: Destination = {
      ...destination,
      async put(key, body) {
        stored.set(key, now);
        return destination.put(key, body);
      },
      async delete(key) {
        if (objects.has(key) && now < (stored.get(key) ?? now - DAY) + 5 * DAY && now < until) {
          throw new LifeboatError('DELETE_REFUSED', key);
        }
        await destination.delete(key);
      },
    };
    const until = now + 20 * DAY;
    const opened = await openRepository(locked, { project: 'shop', create: false, keys: {} });
    const young = ['shop/snapshots/', 'shop/packs/'];
    for (const key of objects.keys()) if (young.some((one) => key.startsWith(one))) stored.set(key, now);
    for (let day = 0; day < 8; day++) {
      const result = await run({}, { repository: opened });
      const { snapshots, damaged } = await opened.snapshots();
      expect(damaged).toEqual([]);
      expect(chainBreaks(snapshots, await readTombstones(opened))).toEqual([]);
      expect(snapshots.length).toBe(day < 5 ? 4 : 2);
      expect(result.refused?.snapshots).toBe(day < 5 ? 2 : undefined);
      now += DAY;
    }
    expect(await packs()).toEqual(['22', '33', 'ab']);
  });

  test('a prune that lost its lease deletes nothing more', async () => {
    await nights(4);
    await run();
    now += DAY;
    const before = [...objects.keys()];
    const lost = async () => {
      throw new LifeboatError('LEASE_LOST', 'taken over');
    };
    await expect(run({}, { fence: lost })).rejects.toMatchObject({ code: 'LEASE_LOST' });
    expect([...objects.keys()]).toEqual(before);
  });

  test('a prune that is delayed between deletions checks its lease before the next ones', async () => {
    await nights(12);
    await run();
    now += DAY;
    let lost = false;
    const fence = async () => {
      if (lost) throw new LifeboatError('LEASE_LOST', 'taken over');
      return undefined;
    };
    const deleted: string[] = [];
    const slow = {
      ...destination,
      async delete(key: string) {
        deleted.push(key);
        await destination.delete(key);
        now += 60_000;
        lost = true;
      },
    };
    const opened = await openRepository(slow, { project: 'shop', create: false, keys: {} });
    await expect(run({}, { repository: opened, fence })).rejects.toMatchObject({ code: 'LEASE_LOST' });
    // Those that had begun with the first proof, and no others.
    expect(deleted.length).toBeLessThanOrEqual(8);
    expect((await run({ dryRun: true })).objects).toBeGreaterThan(8);
  });

  test('an aborted prune stops between two steps', async () => {
    await nights(4);
    await expect(
      run({}, { signal: AbortSignal.abort(new LifeboatError('INTERRUPTED', 'stop')) }),
    ).rejects.toMatchObject({
      code: 'INTERRUPTED',
    });
    expect(await ids()).toHaveLength(4);
  });

  test('a prune that stops at any step does no harm, and the next one finishes', async () => {
    const all = await nights(5);
    await run();
    now += DAY;
    await snapshot(['ab', '77']);
    now += 60_000;
    const reference = new Map(objects);
    let steps = 0;
    for (let failAt = 1; failAt <= steps + 1; failAt++) {
      objects.clear();
      for (const [key, content] of reference) objects.set(key, content);
      let step = 0;
      const dying = () => {
        if (++step === failAt) throw new Error('killed');
      };
      const fragile: Destination = {
        ...destination,
        put: async (key, body) => {
          dying();
          return destination.put(key, body);
        },
        delete: async (key) => {
          dying();
          await destination.delete(key);
        },
      };
      const opened = await openRepository(fragile, { project: 'shop', create: false, keys: {} });
      await run({}, { repository: opened }).catch((error: Error) => expect(error.message).toBe('killed'));
      steps = Math.max(steps, step);
      const { snapshots, damaged } = await repository.snapshots();
      expect(damaged).toEqual([]);
      for (const { manifest } of snapshots) await repository.checkObjects(await objectsOf(repository, manifest));
      expect(chainBreaks(snapshots, await readTombstones(repository))).toEqual([]);
      await run();
      now += DAY;
      await run();
      expect(await ids()).toEqual([last?.manifest.id, all[4]?.manifest.id]);
      expect(await packs()).toEqual(['44', '77', 'ab']);
      now -= DAY;
    }
    expect(steps).toBeGreaterThan(8);
  });
});
